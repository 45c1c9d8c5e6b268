// Shows /openapi.json: every operation with its parameters, body and answers. Text only goes in as text.
"use strict";

const make = (name, text, attributes = {}) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

// A schema as the JSON it describes, references followed.
const example = (api, schema, depth = 0) => {
  if (!schema || depth > 6) return null;
  if (schema.$ref) {
    const found = schema.$ref.replace("#/", "").split("/").reduce((at, key) => at && at[key], api);
    return example(api, found, depth + 1);
  }
  if (schema.example !== undefined) return schema.example;
  if (schema.examples && schema.examples.length) return schema.examples[0];
  const parts = schema.oneOf || schema.anyOf;
  if (parts) return example(api, parts.find((part) => part.type !== "null"), depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => example(api, part, depth + 1)));
  const type = Array.isArray(schema.type) ? schema.type.find((name) => name !== "null") : schema.type;
  if (type === "array") return [example(api, schema.items, depth + 1)];
  if (schema.properties) {
    const pairs = Object.entries(schema.properties);
    return Object.fromEntries(pairs.map(([key, value]) => [key, example(api, value, depth + 1)]));
  }
  if (type === "integer" || type === "number") return 0;
  if (type === "boolean") return true;
  if (type === "string") return schema.format || "text";
  return {};
};

const content = (api, parent, title, parts) => {
  for (const [kind, part] of Object.entries(parts || {})) {
    parent.append(make("p", `${title} ${kind}`));
    const shown = part.example !== undefined ? part.example : example(api, part.schema);
    if (shown !== null && kind.includes("json") || kind.includes("form")) {
      parent.append(make("pre", JSON.stringify(shown, null, 2)));
    }
  }
};

const operation = (api, path, method, about) => {
  const details = make("details");
  const summary = make("summary");
  summary.append(make("span", method.toUpperCase(), { class: "method" }), make("code", path));
  summary.append(` ${about.summary || ""}`);
  details.append(summary);
  if (about.description) details.append(make("p", about.description));
  if (about.security) details.append(make("p", "Needs a bearer token."));
  if (about.parameters && about.parameters.length) {
    const table = make("table");
    for (const parameter of about.parameters) {
      const row = make("tr");
      row.append(make("td", parameter.name), make("td", parameter.in), make("td", parameter.description || ""));
      table.append(row);
    }
    details.append(table);
  }
  if (about.requestBody) content(api, details, "Body:", about.requestBody.content);
  for (const [status, answer] of Object.entries(about.responses || {})) {
    details.append(make("p", `${status} ${answer.description || ""}`));
    content(api, details, "", answer.content);
  }
  details.dataset.text = `${method} ${path} ${about.summary || ""}`.toLowerCase();
  return details;
};

const show = (api) => {
  document.getElementById("about").textContent = `${api.info.version}. ${api.info.description || ""}`;
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of ["get", "head", "post", "put", "patch", "delete", "options"]) {
      if (!item[method]) continue;
      const tag = (item[method].tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(api, path, method, item[method]));
    }
  }
  const main = document.getElementById("operations");
  main.replaceChildren();
  for (const [tag, operations] of groups) main.append(make("h2", tag), ...operations);
};

document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const details of document.querySelectorAll("details")) details.hidden = !details.dataset.text.includes(wanted);
});

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => { document.getElementById("operations").textContent = `The document cannot be read: ${error}`; });
