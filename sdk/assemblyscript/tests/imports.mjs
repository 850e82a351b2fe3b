// Checks which of the interfaces that a manifest grants a compiled handler imports: exactly those that are named.
// `node imports.mjs HANDLER.wasm [INTERFACE…]`, such as `wasi:http`. An import without its grant is refused at load,
// so that a handler must not import what it does not use.

import assert from "node:assert";
import { readFileSync } from "node:fs";

const [file, ...expected] = process.argv.slice(2);
const imports = WebAssembly.Module.imports(new WebAssembly.Module(readFileSync(file))).map((from) => from.module);
// What HTTP refers to goes with it.
const granted = imports.filter((name) => name.startsWith("wasi:")).map((name) => name.split("/")[0]);
const interfaces = new Set(granted.filter((name) => name !== "wasi:io" && name !== "wasi:clocks"));
assert.deepEqual([...interfaces].sort(), expected.sort(), `${file} imports ${[...interfaces]}`);
if (!expected.includes("wasi:http")) assert(!granted.includes("wasi:io"), `${file} imports wasi:io`);
