// JSON by its text: finds the members of an object without parsing the values, so that a number or an escape stays exactly
// as it was written. It trusts its input to be valid JSON; callers check that with JSON.parse first.

const skipSpace = (text, at) => {
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at++;
  return at;
};

function endOfString(text, at) {
  for (at++; text[at] !== '"'; at++) if (text[at] === '\\') at++;
  return at + 1;
}

function endOfValue(text, at) {
  if (text[at] === '"') return endOfString(text, at);
  if (text[at] !== '{' && text[at] !== '[') {
    while (at < text.length && !',}] \t\r\n'.includes(text[at])) at++;
    return at;
  }
  for (let depth = 0; ; ) {
    const char = text[at];
    if (char === '"') { at = endOfString(text, at); continue; }
    if (char === '{' || char === '[') depth++;
    if (char === '}' || char === ']') depth--;
    at++;
    if (depth === 0) return at;
  }
}

/** The members of the object `text`, as a map from name to the raw text of the value; empty for anything else. */
export function membersOf(text) {
  const found = new Map();
  let at = text === undefined ? 0 : skipSpace(text, 0);
  if (text?.[at] !== '{') return found;
  at = skipSpace(text, at + 1);
  while (text[at] !== '}') {
    const nameEnd = endOfString(text, at);
    const name = JSON.parse(text.slice(at, nameEnd));
    const begin = skipSpace(text, skipSpace(text, nameEnd) + 1);
    const end = endOfValue(text, begin);
    found.set(name, text.slice(begin, end));
    at = skipSpace(text, end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
  }
  return found;
}

/** The raw text at a path of member names, or undefined. */
export const rawAt = (text, ...path) => path.reduce((inner, name) => (inner === undefined ? undefined : membersOf(inner).get(name)), text);

export const rawObject = entries => `{${[...entries].map(([name, raw]) => `${JSON.stringify(name)}:${raw}`).join(',')}}`;
