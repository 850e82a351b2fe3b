/**
 * Makes a plugin of a handler: `node build.js SOURCE-FOLDER OUT.wasm ENTRY`, where ENTRY is the handler's file in that
 * folder. What esbuild and componentize-qjs complain about goes to stderr.
 */

import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { forEngine, withContractTypes } from "./contract.js";
import { renamed, withInterfaceNames, worldOf } from "./interfaces.js";

const here = dirname(fileURLToPath(import.meta.url));
const sdk = dirname(here);
// The tools are not beside this file, but where `setup` puts them.
const tools = createRequire(join(sdk, ".tools", "package.json"));

/** The names of interfaces as the engine is given them. */
const renaming = {
  name: "renaming",
  setup: (build) =>
    build.onResolve({ filter: /^wasi:/ }, ({ path }) => ({ path: renamed(path), external: true, sideEffects: false })),
};

/** The handler, what it uses of the SDK, and packages, as one module; and the interfaces that this imports. */
async function bundle(source, entry) {
  const esbuild = tools("esbuild");
  const contents = [
    `import ${JSON.stringify(join(sdk, "runtime", "globals.js"))};`,
    `import { adapt } from ${JSON.stringify(join(sdk, "runtime", "adapter.js"))};`,
    `import { handle } from ${JSON.stringify(entry)};`,
    "export const handler = { handle: adapt(handle) };",
  ].join("\n");
  try {
    const { outputFiles, warnings, metafile } = await esbuild.build({
      stdin: { contents, resolveDir: source, sourcefile: "plugin.js" },
      // What is written does not depend on where it is built from.
      absWorkingDir: source,
      bundle: true,
      write: false,
      format: "esm",
      platform: "neutral",
      // Packages are taken as for a browser: those forms of them need no modules of Node.js.
      mainFields: ["browser", "module", "main"],
      conditions: ["wabbit", "worker", "browser", "module"],
      external: ["wabbit:*"],
      target: "es2023",
      // The engine never runs what its own promises wait for: runtime/promise.js.
      supported: { "async-await": false, "async-generator": false, "for-await": false },
      define: { "process.env.NODE_ENV": '"production"' },
      charset: "utf8",
      legalComments: "none",
      logLevel: "silent",
      metafile: true,
      plugins: [renaming],
    });
    await report(esbuild, warnings, "warning");
    const [{ imports }] = Object.values(metafile.outputs);
    return { text: outputFiles[0].text, imports: imports.map(({ path }) => path) };
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    await report(esbuild, error.errors, "error");
    process.exit(1);
  }
}

async function report(esbuild, messages, kind) {
  for (const { notes } of messages) {
    for (const note of notes) {
      // What esbuild advises here does not help.
      if (note.text.includes("platform: 'node'")) note.text = "A handler has no modules of Node.js.";
    }
  }
  const lines = await esbuild.formatMessages(messages, { kind, color: false });
  process.stderr.write(lines.join(""));
}

/** The module as a component, by QuickJS. */
async function componentize({ text, imports }, folder) {
  const wit = join(folder, "wit");
  rmSync(wit, { recursive: true, force: true });
  cpSync(join(here, "wit"), join(wit, "deps"), { recursive: true });
  const shared = join(sdk, "..", "wit");
  for (const file of readdirSync(join(shared, "deps"))) {
    const interfaces = readFileSync(join(shared, "deps", file), "utf8");
    writeFileSync(join(wit, "deps", `shared-${file}`), renamed(interfaces));
  }
  const contract = readFileSync(join(shared, "worker.wit"), "utf8");
  writeFileSync(join(wit, "worker.wit"), forEngine(contract));
  writeFileSync(join(wit, "plugin.wit"), worldOf(imports));
  const { component } = await tools("componentize-qjs").componentize({
    witPath: wit,
    jsSource: text,
    // Stacks name this file.
    jsPath: join(folder, "plugin.js"),
    world: "plugin",
    sync: true,
  });
  return withInterfaceNames(withContractTypes(component));
}

const [source, out, entry] = process.argv.slice(2);
const given = process.env.WABBIT_BUILD_DIR;
const folder = given ? resolve(given) : mkdtempSync(join(tmpdir(), "wabbit-javascript-"));
try {
  if (!existsSync(join(source, entry))) throw new Error(`\`${source}\` has no ${entry}`);
  mkdirSync(folder, { recursive: true });
  const module = await bundle(resolve(source), resolve(source, entry));
  // Kept for whoever wants to look up a line of a stack.
  writeFileSync(join(folder, "plugin.js"), module.text);
  writeFileSync(out, await componentize(module, folder));
} catch (error) {
  process.stderr.write(`error: ${error.message.replace(/^[:\s]+/, "")}\n`);
  process.exitCode = 1;
} finally {
  if (!given) rmSync(folder, { recursive: true, force: true });
}
