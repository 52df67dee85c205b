// What arrives at a vertex from all lights, each with its own shadow map in the atlas.
uniform mat4 view[COUNT];
uniform vec3 direction[COUNT], colour[COUNT];
uniform int group[COUNT];
uniform sampler2DShadow atlas;
uniform vec2 tiles;
in vec3 pos, nrm;
out vec3 irradiance;  // linear
out vec4 seen;        // share of key, fill, rim and room that is not in shadow
out vec3 mean;        // direction most light comes from
void main() {
  irradiance = vec3(0.0);
  seen = vec4(0.0);
  mean = vec3(0.0);
  vec4 all = vec4(1e-3);
  for (int k = 0; k < COUNT; k++) {
    float facing = dot(nrm, direction[k]), lit = max(facing * 0.97 + 0.03, 0.0);
    vec4 q = view[k] * vec4(pos + nrm * 0.10 + direction[k] * 0.16, 1.0);
    vec2 tile = vec2(mod(float(k), tiles.x), floor(float(k) / tiles.x));
    float open = texture(atlas, vec3((tile + q.xy * 0.5 + 0.5) / tiles, q.z * 0.5 + 0.5 - 0.0008));
    irradiance += colour[k] * lit * open;
    mean += direction[k] * dot(colour[k], vec3(0.3, 0.5, 0.2)) * lit * open;
    float weight = group[k] == 3 ? max(facing, 0.0) + 0.15 : 1.0;
    vec4 mine = vec4(group[k] == 0, group[k] == 1, group[k] == 2, group[k] == 3) * weight;
    seen += mine * open;
    all += mine;
  }
  seen /= all;
  mean /= max(length(mean), 1e-4);
  gl_Position = vec4(0.0);
}
