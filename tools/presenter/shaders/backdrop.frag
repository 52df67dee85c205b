uniform sampler2D room;
in vec2 t;
out vec4 colour;
void main() { colour = vec4(texture(room, t).rgb, 0.55); }
