/**
 * Modules are evaluated once, while the plugin is built, and every instance starts from what they left. There is no host
 * then: what needs one asks here first.
 */

export let building = true;

/** The first call has begun. */
export function begin() {
  building = false;
}

/** An error where there is no call that `what` could answer to. */
export function duringCall(what) {
  if (building) throw new Error(`\`${what}\` answers while a delivery is handled, not while modules are loaded`);
}
