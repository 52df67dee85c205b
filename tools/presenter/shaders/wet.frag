// The film of tears along the lids: highlights only, added to what lies behind.
#include "surface.glsl"
void main() {
  vec3 N = normalize(n), V = normalize(eye - p);
  vec3 N2 = bumped(N, dFdx(noise(g * 14.0, 3u)), dFdy(noise(g * 14.0, 3u)), 0.02);
  colour = vec4(0.9 * highlights(N2, V, 0.14, 0.03) + 0.03 * vs.w * room(reflect(-V, N2)), 0.0);
}
