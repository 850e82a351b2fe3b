/** Writes the last handler that the README shows, and its tests, into a folder: `node readme.js FOLDER`. */

const { readFileSync, writeFileSync } = require("node:fs");
const { dirname, join } = require("node:path");

const here = dirname(__dirname);
const page = readFileSync(join(here, "README.md"), "utf8").replaceAll("../../../sdk/", `${dirname(here)}/`);
const [handler, tests] = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].slice(-2).map(([, code]) => code);
writeFileSync(join(process.argv[2], "handler.ts"), handler);
writeFileSync(join(process.argv[2], "handler.test.ts"), tests);
