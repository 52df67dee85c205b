// Draws the skin flat, in texture coordinates.
in vec2 uv;
in vec3 place;
in float hair, brow;
out vec3 g;
out vec2 t;
out float past, brows;
void main() {
  g = place;
  t = uv;
  past = hair;
  brows = brow;
  gl_Position = vec4(uv * 2.0 - 1.0, 0.0, 1.0);
}
