// Teeth, gums and tongue: wet, and darker the deeper they lie. m: 0 tooth, 1 gum, 2 tongue; then cavity.
#include "surface.glsl"
void main() {
  vec3 N = normalize(n), V = normalize(eye - p), base = c;
  float rough = 0.16, F0 = 0.05, height = 0.0, strength = 0.02;
  if (m.x > 1.5) {
    height = fractal(g * vec3(9.0, 9.0, 6.0), 2, 3u);
    base *= 0.80 + 0.45 * height;
    rough = 0.30;
    strength = 0.05;
  } else if (m.x > 0.5) {
    height = fractal(g * 3.0, 2, 5u);
    rough = 0.24;
  } else {
    base *= 0.97 + 0.06 * noise(g * vec3(14.0, 1.5, 3.0), 7u);
  }
  vec3 N2 = bumped(N, dFdx(height), dFdy(height), strength);
  vec3 wet = highlights(N2, V, rough, F0) + 0.04 * vs.w * room(reflect(-V, N2));
  colour = vec4(base * E * (1.0 - 0.6 * m.y) + wet * (1.0 - 0.8 * m.y), 0.0);
}
