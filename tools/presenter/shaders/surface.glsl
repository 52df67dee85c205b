// What all surfaces share: inputs, lamps, highlights, bumps, blur by distance.
#include "noise.glsl"
centroid in vec3 p, n, E, D, c, g;
centroid in vec2 t, m;
centroid in vec4 vs;
out vec4 colour;  // linear light; a: how far out of focus, 0..1
uniform vec3 eye;
uniform vec3 lampTo[3], lampColour[3];
uniform float lampSize[3];
uniform float focus;
const float PI = 3.14159;

float ggx(vec3 N, vec3 V, vec3 L, float a, float F0) {
  vec3 H = normalize(V + L);
  float nh = max(dot(N, H), 0.0), nl = max(dot(N, L), 0.0), nv = max(dot(N, V), 0.05), vh = max(dot(V, H), 0.0);
  float a2 = a * a, d = nh * nh * (a2 - 1.0) + 1.0, k = a * 0.5;
  float G = 1.0 / ((nl * (1.0 - k) + k) * (nv * (1.0 - k) + k));
  float F = F0 + (1.0 - F0) * pow(clamp(1.0 - vh, 0.0, 1.0), 5.0);
  return a2 / (PI * d * d) * G * F * nl * 0.25;
}
vec3 highlights(vec3 N, vec3 V, float roughness, float F0) {
  vec3 sum = vec3(0.0);
  for (int k = 0; k < 3; k++) {
    float a = min(1.0, roughness + lampSize[k] * 0.35);
    sum += lampColour[k] * ggx(N, V, lampTo[k], a * a, F0) * vs[k] * PI;
  }
  return sum;
}
vec3 bumped(vec3 N, float hx, float hy, float strength) {
  vec3 dx = dFdx(p), dy = dFdy(p), r1 = cross(dy, N), r2 = cross(N, dx);
  float det = dot(dx, r1);
  vec3 q = abs(det) * N - strength * sign(det) * (hx * r1 + hy * r2);
  float l = dot(q, q);
  return (l > 1e-20 && l < 1e20) ? q * inversesqrt(l) : N;
}
vec3 room(vec3 R) { return mix(vec3(0.20, 0.17, 0.14), vec3(0.62, 0.66, 0.70), smoothstep(-0.6, 0.8, R.y)); }
float unsharp() { return clamp((abs(focus - p.z) - 3.0) / 14.0, 0.0, 1.0); }
