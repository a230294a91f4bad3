// @ts-check
/** Tells the answer to the newest question from those that come too late. */

export class Latest {
  #asked = 0;

  /** A question is asked, or what was asked before is of no use any more. @returns {() => boolean}  whether it is still the newest */
  ask() {
    this.#asked += 1;
    const question = this.#asked;
    return () => question === this.#asked;
  }
}
