// Iris behind a clear cornea, and the white around it. The cornea is part of the white's mesh.
#include "surface.glsl"
uniform vec3 axis, centre, iris;
uniform float pupil;
uniform int cornea;
const float LIMBUS = 0.43;  // radians from the eye's axis
void main() {
  vec3 N = normalize(n), V = normalize(eye - p), q = normalize(p - centre);
  float along = clamp(dot(q, axis), -1.0, 1.0), x = acos(along) / LIMBUS;
  vec3 right = normalize(cross(vec3(0.0, 1.0, 0.0), axis)), up = cross(axis, right);
  float angle = atan(dot(q, up), dot(q, right));
  vec3 ring = vec3(cos(angle), sin(angle), x);
  if (cornea == 0) {
    float fibre = noise(ring * vec3(9.0, 9.0, 2.2), 3u) * 0.55 + noise(ring * vec3(23.0, 23.0, 3.0), 5u) * 0.6;
    vec3 tone = iris * (0.45 + 1.15 * fibre);
    tone = mix(tone * vec3(1.55, 1.30, 0.95), tone, smoothstep(pupil + 0.08, pupil + 0.34, x));
    tone *= 1.0 - 0.82 * smoothstep(0.74, 1.0, x);
    tone *= smoothstep(pupil - 0.02, pupil + 0.05, x);
    tone = mix(tone, vec3(0.40, 0.36, 0.34), smoothstep(0.99, 1.14, x));
    // light that the cornea bends falls on the side of the iris away from the lamp
    float caustic = 0.62 + 1.35 * x * max(0.0, dot(normalize(q - axis * along), -lampTo[0])) * vs.x;
    colour = vec4(tone * E * 1.35 * caustic, 0.0);
    return;
  }
  float white = smoothstep(0.93, 1.15, x);
  float wind = noise(q * 9.0, 7u);
  float vein = smoothstep(0.66, 0.92, noise(vec3(ring.xy * 6.0 + 2.0 * wind, x * 3.0), 9u)) * smoothstep(1.35, 2.4, x);
  vec3 tone = mix(vec3(0.56, 0.53, 0.51), vec3(0.50, 0.35, 0.32), smoothstep(1.6, 2.9, x) * 0.6 + vein * 0.32);
  tone *= mix(0.60, 1.0, smoothstep(1.0, 1.25, x));
  vec3 R = reflect(-V, N), s = vec3(0.0);
  float pane = step(0.10, abs(fract(dot(R, normalize(cross(lampTo[0], vec3(0.0, 1.0, 0.0)))) * 2.4 + 0.5) - 0.5));
  s += lampColour[0] * smoothstep(0.940, 0.958, dot(R, lampTo[0])) * mix(0.55, 1.0, pane) * 0.17 * max(vs.x, 0.25);
  s += lampColour[1] * smoothstep(0.88, 0.93, dot(R, lampTo[1])) * 0.08 * max(vs.y, 0.2);
  s += highlights(N, V, 0.22, 0.03) * white;
  s += (0.02 + 0.28 * pow(clamp(1.0 - dot(N, V), 0.0, 1.0), 5.0)) * vs.w * room(R) * 0.6;
  colour = vec4(tone * E * white + s, white);
}
