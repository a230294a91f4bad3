// @ts-check
/** What the browser keeps for this page. */

/** Until the tab is closed, or longer; null where it keeps nothing. @param {"sessionStorage" | "localStorage"} kind */
export function storage(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}
