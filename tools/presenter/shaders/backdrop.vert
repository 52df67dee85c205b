in vec2 corner;
out vec2 t;
void main() {
  t = corner;
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}
