// Darkness on the eye under the lids. m.x: 1 at the lid's rim .. 0 in the middle.
#include "surface.glsl"
void main() { colour = vec4(0.03, 0.012, 0.010, 1.0) * 0.62 * smoothstep(0.0, 1.0, m.x); }
