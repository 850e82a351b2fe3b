/**
 * The interfaces that a plugin imports beside the contract's: those that are left in its bundle, and no others. A
 * plugin that imported what its handler does not use would be refused without the grant.
 *
 * While it makes a component, componentize-qjs runs it with an implementation of WASI, which has no HTTP. What is missing
 * there it makes up; but interfaces that are made up cannot refer to streams that are real. So HTTP and what it refers
 * to are given to it by names that nobody has, as long as the real ones, which are put into the component afterwards.
 * Console and files use the real streams.
 */

import { changeSections } from "./sections.js";

const REAL = "wasi:";
const MADE_UP = "w4si:";

/** The sections of a component that name its imports and what they are given to. */
const NAMING = new Set([
  5, // instances
  10, // imports
]);

/** An interface's name for the engine. */
export const renamed = (name) => name.replace(/^wasi:(?=http\/)/, MADE_UP);

/** The world of a plugin that imports these interfaces. It is the contract's package that it belongs to. */
export function worldOf(interfaces) {
  const others = interfaces.filter((name) => !name.startsWith("wabbit:worker/")).sort();
  return ["world plugin {", "    include worker;", ...others.map((name) => `    import ${name};`), "}", ""].join("\n");
}

/** The component with the interfaces' own names. */
export function withInterfaceNames(component) {
  return changeSections(component, (id, content) => {
    if (!NAMING.has(id)) return content;
    const patched = Buffer.from(content);
    for (let at = patched.indexOf(MADE_UP); at !== -1; at = patched.indexOf(MADE_UP, at)) patched.write(REAL, at);
    return patched;
  });
}
