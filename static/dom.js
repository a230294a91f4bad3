// @ts-check
/** Finding and making elements, with their types checked. */

/**
 * The one element below `root` that matches; a page without it is a defect, said at once.
 * @template {Element} T
 * @param {ParentNode} root
 * @param {string} selector
 * @param {abstract new (...parameters: any[]) => T} kind
 * @returns {T}
 */
export function find(root, selector, kind) {
  const found = root.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`The page lacks ${selector}.`);
  return found;
}

/** @typedef {Record<string, string | number | boolean>} Attributes  false leaves the attribute out, true makes it empty */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...(Node | string)} children  strings become text, never markup
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/**
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/** @param {Element} target @param {Attributes} attributes */
function setAttributes(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) target.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * Makes these the children. Those that are there already and stay in order are not touched, lest a button vanish under the
 * pointer; who has the focus keeps it.
 * @param {Element} parent
 * @param {Element[]} children
 */
export function arrange(parent, children) {
  const focused = document.activeElement;
  for (const child of [...parent.children]) if (!children.includes(child)) child.remove();
  children.forEach((child, place) => {
    const next = parent.children[place] ?? null;
    if (next !== child) parent.insertBefore(child, next);
  });
  if (focused instanceof HTMLElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/**
 * Puts a message where the page keeps one; an empty text takes it away.
 * @param {HTMLElement} place
 * @param {string} text
 * @param {"bad" | "good" | "plain"} [tone]
 */
export function say(place, text, tone = "bad") {
  if (place.textContent !== text) place.textContent = text; // what is the same is not read out again
  place.dataset.tone = tone;
}
