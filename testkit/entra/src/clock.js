// What time it is, for everything in this process: a test moves it on. Whoever asks for the time after this file is loaded gets this one.
const Real = Date;
let ahead = 0; // milliseconds

globalThis.Date = class Date extends Real {
  constructor(...given) {
    if (given.length) super(...given);
    else super(Real.now() + ahead);
  }

  static now() { return Real.now() + ahead; }
};

/** From now on it is so many seconds later; says what time that is. */
export function moveOn(seconds) {
  ahead += seconds * 1000;
  return new Date().toISOString();
}
