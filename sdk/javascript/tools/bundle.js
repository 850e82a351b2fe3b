/** The handler, what it uses of the SDK, and packages, as one module. */

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { renamed } from "./interfaces.js";

const sdk = dirname(dirname(fileURLToPath(import.meta.url)));

/** The tools are not beside this file, but where `setup` puts them. */
export const tools = createRequire(join(sdk, ".tools", "package.json"));

/** The names of interfaces as the engine is given them. */
const renaming = {
  name: "renaming",
  setup: (build) =>
    build.onResolve({ filter: /^wasi:/ }, ({ path }) => ({ path: renamed(path), external: true, sideEffects: false })),
};

/** An error that was told already. */
export class ToldError extends Error {}

/** The text of the module, and the interfaces that it imports. What is wrong with a handler is told, and thrown. */
export async function bundle(source, entry) {
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
    throw new ToldError();
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
