// Answers /?ms=N with the duration in words.
const http = require("http");
const ms = require("ms");

const server = http.createServer((request, response) => {
  const query = new URL(request.url, "http://localhost").searchParams;
  response.end(`${ms(Number(query.get("ms")), { long: true })}\n`);
});

server.listen(process.env.PORT, () => console.log(`listening on ${process.env.PORT}`));
process.on("SIGTERM", () => server.close());
