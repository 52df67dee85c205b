// A hair as a ribbon that faces the camera, at least a pixel wide: what it lacks in width it loses in opacity.
uniform mat4 view;
uniform vec3 eye, turn, pivot, shift;
uniform float thinnest, stiff;
uniform sampler2D moved, light;  // of each hair: how far its root went (rgb) and how much it bends with the neck (a); seen
in vec3 pos, along, tint;
in float side, way, hair;
out vec3 p, T, c;
out float w, opacity;
flat out vec4 vs;
vec3 turned(vec3 q, float weight) {
  float angle = length(turn) * weight;
  vec3 k = turn / max(length(turn), 1e-9);
  return q * cos(angle) + cross(k, q) * sin(angle) + k * dot(k, q) * (1.0 - cos(angle));
}
void main() {
  int row = textureSize(moved, 0).x;
  ivec2 cell = ivec2(int(hair) % row, int(hair) / row);
  vec4 root = texelFetch(moved, cell, 0);
  float weight = stiff < 0.5 ? 0.0 : root.a;
  p = turned(pos + root.rgb - pivot, weight) + pivot + shift * step(0.5, stiff);
  T = normalize(turned(along, weight));
  vec3 across = normalize(cross(normalize(eye - p), T));
  float wide = max(abs(side), thinnest * 0.5);
  opacity = abs(side) / wide;
  p += across * wide * sign(side);
  c = tint;
  w = way;
  vs = texelFetch(light, cell, 0);
  gl_Position = view * vec4(p, 1.0);
}
