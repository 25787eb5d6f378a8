/**
 * Serves the built page on this machine: `node serve.mjs [--port 8000] [--folder dist]`. Port 0 takes a free one.
 *
 * The two headers isolate the page, which lets the model use several threads. Without them it uses one.
 */

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const TYPES = {
  ".css": "text/css", ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".json": "application/json",
  ".mjs": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml", ".wasm": "application/wasm",
};
const { values } = parseArgs({ options: { port: { type: "string", default: "8000" }, folder: { type: "string" } } });
const folder = values.folder ? resolve(values.folder) : fileURLToPath(new URL("dist", import.meta.url));
const port = Number(values.port);
if (!(Number.isInteger(port) && port >= 0 && port < 65536)) fail(`--port ${values.port}: it must be from 0 to 65535`);
if (!(await stat(join(folder, "index.html")).catch(() => null))) fail(`${folder} has no page: npm run build makes it`);

const server = createServer(async (request, response) => {
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  const path = decoded((request.url ?? "/").split("?", 1)[0]); // no URL: its parser throws for "//", which ends this
  const file = join(folder, normalize(path.endsWith("/") ? `${path}index.html` : path));
  const found = file.startsWith(folder + sep) ? await stat(file).catch(() => null) : null;
  if (!found?.isFile()) {
    response.writeHead(404, { "Content-Type": "text/plain" }).end("not found\n");
    return;
  }
  const type = TYPES[/** @type {keyof typeof TYPES} */ (extname(file))] ?? "application/octet-stream";
  response.writeHead(200, { "Content-Type": type, "Content-Length": found.size });
  createReadStream(file).on("error", () => response.destroy()).pipe(response);
});
server.on("error", (error) => fail(`port ${port} cannot be used (${error.message}): choose another with --port`));
server.listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));

/** @param {string} path */
function decoded(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return "\0"; // no file has this name
  }
}

/** @param {string} why */
function fail(why) {
  console.error(`error: ${why}`);
  process.exit(1);
}
