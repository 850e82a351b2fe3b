/**
 * Makes a plugin of a handler: `node build.js SOURCE-FOLDER OUT.wasm ENTRY`, where ENTRY is the handler's file in that
 * folder. What esbuild and componentize-qjs complain about goes to stderr.
 */

import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ToldError, bundle, tools } from "./bundle.js";
import { forEngine, withContractTypes } from "./contract.js";
import { withInterfaceNames, worldOf } from "./interfaces.js";

const here = dirname(fileURLToPath(import.meta.url));
const sdk = dirname(here);

/** The module as a component, by QuickJS. */
async function componentize({ text, imports }, folder) {
  const wit = join(folder, "wit");
  rmSync(wit, { recursive: true, force: true });
  cpSync(join(here, "wit"), join(wit, "deps"), { recursive: true });
  const shared = join(sdk, "..", "wit");
  for (const file of ["config.wit", "keyvalue.wit"]) cpSync(join(shared, "deps", file), join(wit, "deps", file));
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
  if (!(error instanceof ToldError)) process.stderr.write(`error: ${error.message.replace(/^[:\s]+/, "")}\n`);
  process.exitCode = 1;
} finally {
  if (!given) rmSync(folder, { recursive: true, force: true });
}
