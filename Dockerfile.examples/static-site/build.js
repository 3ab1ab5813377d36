// Turns every page of site/ from Markdown into HTML.
const fs = require("fs");
const path = require("path");
const { marked } = require("marked");

fs.mkdirSync("public", { recursive: true });
for (const name of fs.readdirSync("site")) {
  const page = marked.parse(fs.readFileSync(path.join("site", name), "utf8"));
  const out = path.join("public", name.replace(/\.md$/, ".html"));
  fs.writeFileSync(out, `<!doctype html>\n<meta charset="utf-8">\n${page}`);
}
