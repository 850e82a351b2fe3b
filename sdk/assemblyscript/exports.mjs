// A transform of the AssemblyScript compiler: exports the functions of library/exports.ts under the names of the
// contract, which are no identifiers, and nothing else but the memory and what starts the module.

const NAMES = {
  realloc: "cabi_realloc",
  reallocAdapter: "cabi_realloc_adapter",
  handle: "wabbit:worker/handler@0.1.0#handle",
  postReturn: "cabi_post_wabbit:worker/handler@0.1.0#handle",
};

export default class {
  afterCompile(module) {
    const exports = Array.from({ length: module.getNumExports() }, (_, i) =>
      this.binaryen.getExportInfo(module.getExportByIndex(i)),
    );
    for (const { name } of exports) {
      if (name !== "memory" && name !== "_initialize") module.removeExport(name);
    }
    for (const { name, value } of exports) {
      // By the file as well: a handler may have functions of these names.
      if (NAMES[name] && value.endsWith(`/library/exports/${name}`)) {
        module.addFunctionExport(value, NAMES[name]);
      }
    }
  }
}
