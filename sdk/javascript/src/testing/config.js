/** The stand-in for settings in tests. */

import { state } from "./state.js";

export const readValue = (name) => state.config.get(name) ?? state.secrets.get(name);

export const readAll = () => state.config;
