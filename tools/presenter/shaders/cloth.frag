// Knit: ribs at the collar, stitches elsewhere.
#include "surface.glsl"
void main() {
  vec3 N = normalize(n), V = normalize(eye - p);
  bool collar = t.y < 5.6;
  float wool = noise(vec3(t * vec2(26.0, 8.0), 1.0), 3u), fuzz = noise(vec3(t * vec2(60.0, 40.0), 2.0), 5u);
  float rib = 0.5 + 0.5 * sin(t.x * 9.5);
  float stitch = 0.5 + 0.5 * sin(t.x * 22.0 + 1.2 * sin(t.y * 14.0)) * sin(t.y * 14.0);
  float height = collar ? 0.075 * rib + 0.02 * wool : 0.022 * stitch + 0.02 * wool + 0.008 * fuzz;
  vec3 N2 = bumped(N, dFdx(height), dFdy(height), 0.55);
  float shade = clamp(1.0 + dot(N2, D) - dot(N, D), 0.3, 1.8);
  float sheen = 0.16 * pow(clamp(1.0 - dot(N, V), 0.0, 1.0), 3.0);
  float deep = collar ? 0.72 + 0.28 * rib : 0.86 + 0.14 * stitch;
  colour = vec4(c * E * shade * deep * (0.88 + 0.20 * wool) + sheen * E * (0.5 * c + 0.04), unsharp());
}
