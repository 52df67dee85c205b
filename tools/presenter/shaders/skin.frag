#include "surface.glsl"
uniform sampler2D albedo0, albedo1, relief0, relief1, wrinkle0;
uniform vec4 folds;  // raised brows, smile, rounded lips, lowered brows: 0..1
void main() {
  bool face = t.x < 1.0;
  vec2 q = face ? t : t - vec2(1.0, 0.0);
  vec3 N = normalize(n), V = normalize(eye - p);
  vec3 skin = face ? texture(albedo0, q).rgb : texture(albedo1, q).rgb;
  vec4 r = face ? texture(relief0, q) : texture(relief1, q);
  float height = r.r, fold = 0.0;
  if (face) {
    fold = dot(texture(wrinkle0, q), folds);
    height += fold;
  }
  vec3 N2 = bumped(N, dFdx(height), dFdy(height), 0.034);
  // red light leaves the skin far from where it entered: it knows less of the bumps
  vec3 shade = 1.0 + vec3(0.50, 0.85, 1.0) * (dot(N2, D) - dot(N, D));
  skin *= 1.0 + 0.10 * clamp(fold, -1.5, 0.5);
  float lips = r.g, gloss = r.b, roughness = mix(0.52 - 0.09 * gloss, 0.30, lips);
  vec3 s = 0.72 * highlights(N2, V, roughness, mix(0.024 + 0.012 * gloss, 0.036, lips))
      + 0.28 * highlights(N2, V, roughness * 0.58, 0.022 + 0.012 * gloss);
  float grazing = 0.026 + 0.28 * pow(clamp(1.0 - dot(N, V), 0.0, 1.0), 5.0);
  s += grazing * vs.w * room(reflect(-V, N2));
  colour = vec4(skin * E * clamp(shade, 0.35, 1.8) + s, unsharp());
}
