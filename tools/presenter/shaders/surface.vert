uniform mat4 view;
in vec3 pos, nrm, irradiance, mean;
in vec4 seen;
in vec2 uv, matter;
in vec3 tint, place;
centroid out vec3 p, n, E, D, c, g;
centroid out vec2 t, m;
centroid out vec4 vs;
void main() {
  p = pos;
  n = nrm;
  t = uv;
  E = irradiance;
  vs = seen;
  D = mean;
  c = tint;
  g = place;
  m = matter;
  gl_Position = view * vec4(pos, 1.0);
}
