// Value noise from integers: the same on every driver.
uint scrambled(ivec3 c, uint seed) {
  uint h = uint(c.x) * 374761393u + uint(c.y) * 668265263u + uint(c.z) * 2246822519u + seed * 3266489917u;
  h = (h ^ (h >> 13)) * 1274126177u;
  h = (h ^ (h >> 15)) * 2246822519u;
  return h ^ (h >> 16);
}
float lattice(ivec3 c, uint seed) { return float(scrambled(c, seed) & 0xffffffu) / 16777215.0; }
float noise(vec3 q, uint seed) {
  vec3 f = fract(q);
  ivec3 c = ivec3(floor(q));
  f = f * f * (3.0 - 2.0 * f);
  vec4 low = vec4(lattice(c, seed), lattice(c + ivec3(1, 0, 0), seed), lattice(c + ivec3(0, 1, 0), seed),
                  lattice(c + ivec3(1, 1, 0), seed));
  vec4 high = vec4(lattice(c + ivec3(0, 0, 1), seed), lattice(c + ivec3(1, 0, 1), seed),
                   lattice(c + ivec3(0, 1, 1), seed), lattice(c + ivec3(1, 1, 1), seed));
  vec4 plane = mix(low, high, f.z);
  vec2 line = mix(plane.xy, plane.zw, f.y);
  return mix(line.x, line.y, f.x);
}
float fractal(vec3 q, int octaves, uint seed) {
  float total = 0.0, height = 1.0, all = 0.0;
  for (int k = 0; k < octaves; k++) {
    total += height * noise(q, seed + uint(k));
    all += height;
    height *= 0.55;
    q *= 2.03;
  }
  return total / all;
}
