// Light on hair: Kajiya & Kay 1989 with Marschner's two shifted highlights (Scheuermann 2004).
in vec3 p, T, c;
in float w, opacity;
flat in vec4 vs;
out vec4 colour;
uniform vec3 eye;
uniform vec3 lampTo[3], lampColour[3];
void main() {
  vec3 V = normalize(eye - p), t = normalize(T), up = normalize(p - vec3(0.0, 3.0, -1.0)), sum = vec3(0.0);
  vec3 first = normalize(t + 0.10 * up), second = normalize(t - 0.14 * up);
  float deep = mix(0.30, 1.0, smoothstep(0.0, 0.8, w));
  for (int k = 0; k < 3; k++) {
    float tl = dot(t, lampTo[k]), wrap = clamp(dot(up, lampTo[k]) * 0.65 + 0.35, 0.0, 1.0) * mix(0.25, 1.0, vs[k]);
    vec3 H = normalize(V + lampTo[k]);
    float a = dot(first, H), b = dot(second, H);
    float white = pow(max(1.0 - a * a, 0.0), 45.0), tinted = pow(max(1.0 - b * b, 0.0), 12.0);
    sum += lampColour[k] * wrap * deep * (c * sqrt(max(0.0, 1.0 - tl * tl)) * 0.62 + 0.030 * white + c * 0.70 * tinted);
  }
  sum += c * deep * mix(0.4, 1.0, vs.w) * (vec3(0.36, 0.37, 0.38) + 0.26 * up.y);
  colour = vec4(sum, opacity);
}
