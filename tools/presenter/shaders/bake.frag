// The skin of one texture tile. All places are those of the mean ICT head, in cm.
#include "noise.glsl"
in vec3 g;
in vec2 t;
in float past, brows;
layout(location = 0) out vec4 albedo;   // rgb linear, a 1
layout(location = 1) out vec4 relief;   // height, lips, gloss, 1
layout(location = 2) out vec4 wrinkle;  // heights that come with: raised brows, a smile, rounded lips, lowered brows
uniform sampler2D marks;                // signed distance from the lips' rim (thousandths of the tile), freckles
uniform vec3 tone, lipTone, hairTone;
uniform float redness, stubble, age, oil;
uniform int seed, tile;

float near(vec3 p, float r) {
  vec3 q = vec3(abs(g.x), g.yz) - p;
  return exp(-dot(q, q) / (r * r));
}
float line(float distance, float width) { return exp(-(distance * distance) / (width * width)); }

void main() {
  uint s = uint(seed);
  float x = abs(g.x), y = g.y, z = g.z;
  float broad = fractal(g * 0.35, 3, s) - 0.5, blotch = fractal(g * 1.6, 4, s + 11u) - 0.5;
  float middle = fractal(g * 4.5, 3, s + 23u) - 0.5, fine = fractal(g * 9.0, 3, s + 37u) - 0.5;
  float front = smoothstep(5.0, 8.0, z);

  vec3 red = vec3(0.91, 0.50, 0.53), blue = vec3(0.56, 0.64, 0.80), yellow = vec3(1.06, 1.10, 0.98);
  vec3 c = vec3(1.0);
  c = mix(c, yellow, 0.5 * smoothstep(5.5, 9.0, y) + 0.35 * smoothstep(-9.0, -13.0, y));
  float flush = 0.34 * near(vec3(4.4, -0.2, 8.8), 2.5) + 0.38 * near(vec3(0.0, 0.3, 12.6), 1.5)
      + 0.34 * near(vec3(1.5, -0.4, 11.2), 0.9) + 0.20 * near(vec3(0.0, -6.4, 10.8), 1.7)
      + 0.55 * smoothstep(8.1, 8.8, x) * smoothstep(-3.0, 0.0, y) * smoothstep(6.5, 4.0, y)
      + 0.14 * near(vec3(0.0, 6.2, 11.0), 1.3) + 0.12 * smoothstep(-8.5, -11.0, y);
  c = mix(c, red, clamp(redness * flush * (1.0 + 1.3 * blotch + 0.8 * middle), 0.0, 0.9));
  c = mix(c, red, clamp(redness * (0.35 * broad + 0.50 * blotch + 0.18 * middle), 0.0, 0.5));
  c = mix(c, yellow, clamp(-0.4 * broad - 0.35 * blotch, 0.0, 0.6));
  c = mix(c, blue, 0.34 * near(vec3(2.6, 2.25, 9.4), 1.0) + 0.20 * near(vec3(1.9, 3.0, 9.6), 0.7)
      + 0.16 * near(vec3(3.2, 4.6, 9.6), 1.1));
  c = mix(c, red, redness * (0.40 * near(vec3(1.85, 3.25, 9.2), 0.5) + 0.26 * near(vec3(4.5, 3.4, 8.6), 0.6)));
  c *= 1.0 + 0.20 * fine + 0.16 * blotch;
  c *= 1.0 + middle * vec3(0.06, -0.12, -0.10);

  float beard = smoothstep(0.4, -1.3, y - 0.10 * max(x - 1.0, 0.0) * max(x - 1.0, 0.0)) * smoothstep(-10.5, -8.0, y)
      * smoothstep(2.0, 4.2, z) * smoothstep(7.6, 6.4, x);
  beard *= 0.35 + 0.65 * smoothstep(-1.0, -2.2, y);
  float shaft = noise(g * 19.0, s + 51u) * 0.6 + noise(g * 31.0, s + 52u) * 0.4;
  c = mix(c, blue * 0.80, stubble * 0.42 * beard * (0.85 + 0.9 * blotch));
  c *= 1.0 - stubble * 0.55 * beard * smoothstep(0.56, 0.80, shaft);

  // lines that are always there: beside the nose, under the eyes, under the lip, on the neck
  float xa = x + 0.12 * sign(g.x) + 0.10 * blotch;
  float fold = (y < -0.6) ? mix(2.85, 2.10, clamp((y + 2.8) / 2.2, 0.0, 1.0)) : mix(2.10, 1.70, clamp((y + 0.6) / 1.2, 0.0, 1.0));
  float naso = line(xa - fold, 0.17) * smoothstep(-4.2, -2.4, y) * smoothstep(0.9, -0.3, y) * front;
  float bag = line(y - (2.36 - 0.10 * (x - 3.0) * (x - 3.0) + 0.06 * x), 0.12) * smoothstep(1.6, 2.2, x)
      * smoothstep(4.6, 3.6, x) * front;
  float chin = line(y + 5.30 - 0.05 * x * x, 0.26) * smoothstep(2.2, 0.8, x) * front;
  float philtrum = (line(x - 0.42, 0.10) - 0.6 * line(x, 0.22)) * smoothstep(-2.35, -2.1, y) * smoothstep(-1.2, -1.5, y) * front;
  float throat = (line(y + 11.4 + 0.05 * x * x + 0.25 * broad, 0.10) + line(y + 13.2 + 0.04 * x * x - 0.3 * broad, 0.09))
      * smoothstep(-9.0, -10.0, y) * smoothstep(5.0, 3.0, x);
  float years = 0.4 + 0.9 * age;
  c *= 1.0 - years * (0.14 * naso + 0.12 * bag + 0.09 * chin + 0.04 * throat);

  float pores = 0.55 * (fractal(g * 11.0, 3, s + 61u) - 0.5) + 0.40 * (fractal(g * 22.0, 2, s + 67u) - 0.5);
  float lumps = fractal(g * 3.2, 3, s + 71u) - 0.5;
  float height = pores * (0.75 + 0.5 * smoothstep(6.0, 2.0, x)) + 0.7 * lumps * (0.5 + age)
      - years * (1.6 * naso + 1.1 * bag + 0.9 * chin + 0.22 * throat) + 0.5 * philtrum + stubble * 0.5 * beard * (shaft - 0.5);

  // folds that come and go with the expression
  float wave = 0.20 * sin(g.x * 0.9 + float(seed)) + 0.5 * (noise(vec3(g.x * 0.55, 3.0, float(seed)), s + 81u) - 0.5);
  float rows = 0.0;
  for (int k = 0; k < 3; k++) {
    float at = 7.35 + 0.82 * float(k) + wave + 0.25 * (noise(vec3(g.x * 0.8, float(k) * 5.0, 1.0), s + 83u) - 0.5);
    rows += line(y - at, 0.085) * (0.65 + 0.7 * noise(vec3(g.x * 0.9, float(k) * 3.0, 2.0), s + 85u));
  }
  rows *= smoothstep(5.4, 3.2, x) * smoothstep(10.2, 9.4, y) * smoothstep(5.0, 7.0, z);
  float crow = 0.0;
  for (int k = 0; k < 4; k++) {
    vec2 q = vec2(x - 4.75, y - 3.35);
    float angle = -0.55 + 0.36 * float(k);
    float across = dot(q, vec2(-sin(angle), cos(angle))) + 0.05 * blotch, along = dot(q, vec2(cos(angle), sin(angle)));
    crow += line(across, 0.055) * smoothstep(0.1, 0.45, along) * smoothstep(1.7, 0.7, along);
  }
  float cheek = line(xa - fold - 0.10, 0.20) * smoothstep(-4.4, -2.6, y) * smoothstep(0.9, -0.2, y) * front;
  float purse = sin(g.x * 17.0 + 5.0 * (noise(vec3(g.x * 3.0, y, 5.0), s + 91u) - 0.5)) * smoothstep(2.3, 1.4, x)
      * (smoothstep(-1.5, -2.1, y) * smoothstep(-2.9, -2.4, y) + smoothstep(-4.2, -4.6, y) * smoothstep(-5.2, -4.8, y)) * front;
  float glabella = (line(x - 0.62 - 0.05 * blotch, 0.10)) * smoothstep(4.6, 5.3, y) * smoothstep(7.6, 6.4, y) * front;
  wrinkle = -vec4(rows * 1.5, crow * 1.3 + cheek * 2.4, purse * 0.5, glabella * 1.8);
  height += 0.22 * years * (wrinkle.x + 0.5 * crow + 0.5 * wrinkle.w);
  c *= 1.0 - 0.05 * years * rows;

  float lips = 0.0;
  vec2 mark = texture(marks, t).rg;
  if (tile == 0) {
    float rim = mark.r + blotch * 6.0;
    lips = smoothstep(-3.5, 5.0, rim);
    float stripes = fractal(vec3(g.x * 10.0, y * 1.1, z * 1.1), 2, s + 95u) * 0.6 + noise(vec3(g.x * 18.0, y * 1.6, z * 1.6), s + 97u) * 0.4;
    float inner = smoothstep(8.0, 26.0, mark.r);
    vec3 lip = mix(lipTone, lipTone * vec3(0.66, 0.48, 0.50), inner) * (0.86 + 0.26 * stripes + 0.30 * blotch);
    c = mix(c * tone, lip, 0.84 * lips);
    c *= 1.0 + 0.09 * line(rim + 4.0, 3.0);
    height = mix(height, 1.25 * (stripes - 0.5) + 0.3 * fine, lips);
    c *= 1.0 - mark.g * vec3(0.28, 0.42, 0.46);
  } else {
    c *= tone;
  }
  c = mix(c, mix(c * 0.55, hairTone, 0.35), 0.62 * clamp(brows, 0.0, 1.0));
  float shadow = exp(-pow(clamp(-past, 0.0, 9.0) / 0.75, 2.0)) * step(past, 0.3);
  c *= 1.0 - 0.24 * shadow;
  float scalp = smoothstep(-0.3, 1.1, past + 0.5 * (fine + middle));
  c = mix(c, mix(tone * 0.25, hairTone * 0.35, 0.75), 0.86 * scalp);
  if (tile == 1 && t.x < 0.255 && t.y > 0.695)  // the inside of the mouth
    c = vec3(0.26, 0.055, 0.05) * (1.0 + 0.4 * blotch) * (1.0 - 0.75 * smoothstep(9.9, 7.5, z));

  float shine = 0.55 * exp(-dot(vec2(g.x, (y - 8.0) * 0.6), vec2(g.x, (y - 8.0) * 0.6)) / 13.0)
      + 0.65 * exp(-dot(vec2(g.x * 1.2, y - 1.5), vec2(g.x * 1.2, y - 1.5)) / 5.0) + 0.25 * near(vec3(4.0, 1.0, 9.2), 1.4);
  albedo = vec4(clamp(c, 0.002, 0.95), 1.0);
  relief = vec4(height, lips, oil * shine * (1.0 + 1.5 * blotch + 1.1 * middle) * (1.0 - 0.7 * stubble * beard), 1.0);
}
