// @ts-check
/** What is said of a model where one is chosen, and a list to choose one from. */
import { element } from "./dom.js";
import { percent, titles } from "./format.js";

/** @typedef {import("./api.js").Model} Model */

/** Guessing is right for one image of ten. @param {Model} model */
export const hasLearned = ({ scores }) => scores.accuracy >= 0.2;

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
