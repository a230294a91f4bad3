// @ts-check
/** Asks again after a while, as long as somebody looks: a page in the background costs the service nothing. */

/** Share of a pause by which pages that were opened together come apart. */
const SPREAD = 0.25;

export class Poll {
  #timer = 0;
  #isDue = false;

  /** @param {() => void} ask */
  constructor(ask) {
    this.ask = ask;
    document.addEventListener("visibilitychange", () => this.#askIfSeen());
  }

  /** Once; what was planned before is not. @param {number} ms  at least */
  askIn(ms) {
    this.stop();
    this.#timer = setTimeout(
      () => {
        this.#isDue = true;
        this.#askIfSeen();
      },
      ms * (1 + SPREAD * Math.random()),
    );
  }

  stop() {
    clearTimeout(this.#timer);
    this.#isDue = false;
  }

  #askIfSeen() {
    if (!this.#isDue || document.hidden) return;
    this.#isDue = false;
    this.ask();
  }
}
