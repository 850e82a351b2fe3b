/**
 * What a handler's own tests say about settings, stores, files and servers, which a manifest grants in a host. The types
 * are in testing.d.ts.
 */

import { bytesOf } from "./src/bytes.js";
import { plain } from "./src/testing/files.js";
import { state } from "./src/testing/state.js";

const KNOWN = new Set(["config", "secrets", "keyvalue", "files", "http"]);

/** What is there from now on; what is not named is not. */
export function provide(provided = {}) {
  for (const name in provided) {
    if (!KNOWN.has(name)) throw new TypeError(`\`provide\` knows no \`${name}\``);
  }
  const { config, secrets, keyvalue, files, http } = provided;
  state.config = new Map(Object.entries(config ?? {}));
  state.secrets = new Map(Object.entries(secrets ?? {}));
  state.stores = new Map(Object.entries(keyvalue ?? {}).map(([name, values]) => [name, contents(values)]));
  state.folders = Object.keys(files ?? {}).map(plain);
  state.files = new Map();
  for (const [folder, inside] of Object.entries(files ?? {})) {
    state.files.set(plain(folder), null);
    for (const [name, content] of contents(inside)) state.files.set(plain(`${folder}/${name}`), content);
  }
  state.answer = http;
}

const contents = (values) => new Map(Object.entries(values).map(([name, value]) => [name, bytesOf(value, `\`${name}\``)]));
