// What a page must load, minified and compressed: printed, and too much is a failure (`npm run size`).
//
// Rule 1: `core` is what `import "runcast"` pulls in at once; `following` comes when a run is first watched.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const CORE = 6 * 1024;
const WITH_FOLLOWING = 9.5 * 1024;

/** Bytes after minifying and gzip. @param {boolean} all with what is imported later */
async function sizeOf(all) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("../../clients/js/index.js", import.meta.url))],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: all ? [] : ["./connection.js"],
    write: false,
  });
  return gzipSync(outputFiles[0]?.contents ?? "", { level: 9 }).length;
}

const [core, whole] = [await sizeOf(false), await sizeOf(true)];
console.log(`runcast, minified and gzipped: ${core} bytes (at most ${CORE}), with following ${whole} (at most ${WITH_FOLLOWING})`);
if (core > CORE || whole > WITH_FOLLOWING) process.exitCode = 1;
