#!/usr/bin/env node
// The same requests to two authorization servers, the reference first. Where their answers differ in kind, that is a fault, unless
// accepted.json has the case with what ours says and why that is right. A difference listed there that is none fails, too.
//
//   differential.mjs REFERENCE_ISSUER OUR_ISSUER [--document URL --stranger URL] [--user NAME] [--password WORD] [--only REGEX] [--show]
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { cases } from './cases.mjs';
import { Server } from './talk.mjs';

const AT_ONCE = 4;

async function answersOf(issuer, person, known, chosen) {
  const server = await Server.at(issuer, person);
  const found = new Map(), waiting = [...chosen];
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      found.set(one.name, await one.work(server, known).catch(error => `the case broke: ${error.message.split('\n')[0].slice(0, 200)}`));
    }
  }));
  return found;
}

/** Gives {ok, note, details}. */
export async function differential(reference, ours, { document, stranger, only, registered = true, accepted = JSON.parse(readFileSync(new URL('./accepted.json', import.meta.url), 'utf8')), show, ...person } = {}) {
  const known = { document, stranger };
  const chosen = cases.filter(({ name }) => (!only || only.test(name)) && (document || !/document/.test(name)) && (registered || !/a registered client|two clients|secret|base64/.test(name)));
  const [left, right] = await Promise.all([answersOf(reference, {}, known, chosen), answersOf(ours, person, known, chosen)]);
  const details = [];
  for (const { name } of chosen) {
    const [theirs, own] = [left.get(name), right.get(name)];
    if (show) console.log(`${name}\n    reference  ${theirs}\n    ours       ${own}`);
    const allowed = accepted[name];
    if (theirs.startsWith('the case broke')) details.push(`${name}: the reference itself, ${theirs}`);
    else if (allowed && theirs === own) details.push(`${name}: listed as different, and both say ${own}`);
    else if (allowed && allowed.ours !== own) details.push(`${name}: ours says ${own}, and is listed with ${allowed.ours}`);
    else if (!allowed && theirs !== own) details.push(`${name}: the reference says ${theirs}, ours ${own}`);
  }
  const names = new Set(cases.map(({ name }) => name));
  for (const name of Object.keys(accepted)) if (!names.has(name)) details.push(`${name}: listed as different, and no case`);
  return { ok: details.length === 0, note: `${chosen.length} cases, ${Object.keys(accepted).length} accepted differences`, details };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const text = { type: 'string' };
  const { values, positionals: [reference, ours] } = parseArgs({ allowPositionals: true, options: { document: text, stranger: text, user: text, password: text, only: text, show: { type: 'boolean' } } });
  if (!reference || !ours) { console.error('usage: differential.mjs REFERENCE_ISSUER OUR_ISSUER [--document URL --stranger URL] [--user NAME] [--password WORD] [--only REGEX] [--show]'); process.exit(2); }
  const { ok, note, details } = await differential(reference, ours, { ...values, only: values.only && new RegExp(values.only), ...(reference === ours ? { accepted: {} } : {}) });
  details.forEach(detail => console.log(`DIFF ${detail}`));
  console.log(`RESULT ${note}, ${details.length} wrong`);
  process.exit(ok ? 0 : 1);
}
