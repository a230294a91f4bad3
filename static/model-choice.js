// @ts-check
/** A list to choose one model from. */
import { element } from "./dom.js";
import { percent, titles } from "./format.js";

/** @typedef {import("./api.js").Model} Model */

/** @param {Model} model */
export const titleOf = ({ name, scores }) => `${name} (${percent(scores.accuracy)})`;

/**
 * Fills a list anew; what was chosen stays chosen while it is there.
 * @param {HTMLSelectElement} select @param {Model[]} models @param {HTMLOptionElement[]} [before]  options that stand first
 */
export function offer(select, models, before = []) {
  const chosen = select.value;
  const shown = titles(models, titleOf);
  const options = models.map(({ id }, index) => element("option", { value: id }, shown[index]));
  select.replaceChildren(...before, ...options);
  if ([...select.options].some(({ value }) => value === chosen)) select.value = chosen;
}
