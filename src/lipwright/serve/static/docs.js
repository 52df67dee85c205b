// The interface for programs, made from /openapi.json.

const METHODS = ["get", "post", "put", "patch", "delete"];

/**
 * @param {string} tag
 * @param {object} [properties]
 * @param {...(Node | string)} children
 */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function kinds(content) {
  return Object.keys(content ?? {}).join(", ");
}

function parameter({ name, in: place, required, description, schema }) {
  const words = [place, schema?.type ?? "", required ? "required" : "", description ?? ""].filter(Boolean).join(", ");
  return element("li", {}, element("code", { textContent: name }), ` ${words}`);
}

function answer([status, { description, content }]) {
  const words = [description, kinds(content)].filter(Boolean).join(": ");
  return element("li", {}, element("code", { textContent: status }), ` ${words}`);
}

function list(title, entries) {
  return entries.length ? [element("h4", { textContent: title }), element("ul", {}, ...entries)] : [];
}

function operation(path, method, { description, summary, parameters, requestBody, responses }) {
  const title = element("h3", {}, element("span", { className: "method", textContent: method.toUpperCase() }), path);
  const body = requestBody ? list("Body", [element("li", { textContent: kinds(requestBody.content) })]) : [];
  return element(
    "section",
    { className: "panel operation" },
    title,
    element("p", { textContent: description ?? summary ?? "" }),
    ...list("Parameters", (parameters ?? []).map(parameter)),
    ...body,
    ...list("Answers", Object.entries(responses ?? {}).map(answer)),
  );
}

function operations({ paths }) {
  return Object.entries(paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => method in methods).map((method) => operation(path, method, methods[method])),
  );
}

try {
  const description = await (await fetch("/openapi.json")).json();
  document.getElementById("operations").replaceChildren(...operations(description));
} catch {
  const message = document.getElementById("message");
  message.textContent = "The server cannot be reached. Is it still running?";
  message.hidden = false;
}
