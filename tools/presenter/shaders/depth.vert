uniform mat4 view;
in vec3 pos;
void main() { gl_Position = view * vec4(pos, 1.0); }
