import { Delivery } from "./delivery";
import { Outcome } from "./outcome";

/** Names the handler of this plugin. It is called once, from the top level of assembly/index.ts. */
export function serve(handle: (delivery: Delivery) => Outcome): void {
  handler = handle;
}

// @ts-ignore: what calls it is compiled in by `build`
export let handler: (delivery: Delivery) => Outcome = (_) => Outcome.fail("no handler: assembly/index.ts does not call serve");
