#!/usr/bin/env node
// The official conformance suite, direct and through the gateway, at the four true wires. The suite's driver always offers
// 2025-11-25 in initialize, so for the two older wires a shim puts the older version there, and the driver then speaks it.
// Passes only if every scenario passes on both sides: there is no list of expected failures.
//
//   conformance.mjs DIRECT_URL GATEWAY_URL [--token TOKEN] [--wire VERSION]… [--apart]
//
// --apart says that the two URLs end at different upstream processes, so that both sides may run at once.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { startShim } from './shim.mjs';
import { run, node24, here } from './procs.mjs';

const WIRES = {
  '2025-03-26': { change: 'force-2025-03-26', selections: [['--spec-version', '2025-06-18'], ['--spec-version', '2025-03-26']] },
  '2025-06-18': { change: 'force-2025-06-18', selections: [['--spec-version', '2025-06-18']] },
  '2025-11-25': { selections: [['--spec-version', '2025-11-25']] },
  '2026-07-28': { selections: [['--spec-version', '2026-07-28']] },
};
export const wires = Object.keys(WIRES);
const suite = here('node_modules/@modelcontextprotocol/conformance/dist/index.js');

/** Runs the suite's own command; gives its scenarios as a map from name to {passed, failed, failures}. */
export async function conformance(args, { env, seconds = 180 } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'conformance-'));
  try {
    const { output, code } = await run(node24, [suite, ...args, '-o', directory], { seconds, env: { ...env, PATH: `${dirname(node24)}:${process.env.PATH}` } });
    const scenarios = new Map();
    for (const entry of readdirSync(directory)) {
      const name = /^(?:server-|client-)?(.*)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(entry)?.[1] ?? entry;
      const checks = JSON.parse(readFileSync(join(directory, entry, 'checks.json'), 'utf8'));
      const count = status => checks.filter(check => check.status === status).length;
      const failures = checks.filter(check => check.status === 'FAILURE').map(check => `${check.id}: ${check.errorMessage ?? check.description}`);
      scenarios.set(name, { passed: count('SUCCESS'), failed: failures.length, warned: count('WARNING'), failures });
    }
    return { scenarios, output, code };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function oneSide(url, wire, headers) {
  const { change, selections } = WIRES[wire];
  const { origin, pathname } = new URL(url);
  const shim = await startShim(origin, 0, change, { addHeaders: headers, rewriteHost: 'own' });
  const all = new Map();
  let output = '';
  try {
    for (const selection of selections) {
      const one = await conformance(['server', '--url', `http://127.0.0.1:${shim.port}${pathname}`, '--suite', 'all', ...selection]);
      output += one.output;
      for (const [name, found] of one.scenarios) all.set(name, found);
    }
  } finally {
    shim.close();
  }
  return { all, output };
}

/** Both sides at one wire; gives {ok, line, details}. */
export async function compareAt(wire, directUrl, gatewayUrl, token, apart) {
  const begun = Date.now();
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const direct = oneSide(directUrl, wire, {});
  if (!apart) await direct;
  const gateway = oneSide(gatewayUrl, wire, headers);
  const [one, two] = [await direct, await gateway];
  const details = [];
  for (const name of new Set([...one.all.keys(), ...two.all.keys()])) {
    const [left, right] = [one.all.get(name), two.all.get(name)];
    if (!left || !right) details.push(`  ${name}: ran only ${left ? 'direct' : 'through the gateway'}`);
    for (const failure of left?.failures ?? []) details.push(`  direct  ${name}: ${failure}`);
    for (const failure of right?.failures ?? []) details.push(`  gateway ${name}: ${failure}`);
    if (left && right && !left.failed && !right.failed && left.passed > right.passed) details.push(`  ${name}: ${left.passed} checks passed direct, ${right.passed} through the gateway`);
  }
  if (!one.all.size) details.push(`  the suite ran nothing:\n${one.output.slice(-1500)}`);
  const tell = side => { const all = [...side.all.values()]; return `${all.filter(s => !s.failed).length}/${all.length} scenarios, ${all.reduce((n, s) => n + s.passed, 0)} checks`; };
  return { ok: details.length === 0, line: `${wire}  direct ${tell(one)}  gateway ${tell(two)}  ${((Date.now() - begun) / 1000).toFixed(1)} s`, details };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals: [directUrl, gatewayUrl] } = parseArgs({ allowPositionals: true, options: { token: { type: 'string' }, wire: { type: 'string', multiple: true, default: wires }, apart: { type: 'boolean', default: false } } });
  if (!directUrl || !gatewayUrl) { console.error('usage: conformance.mjs DIRECT_URL GATEWAY_URL [--token TOKEN] [--wire VERSION]… [--apart]'); process.exit(2); }
  let failed = 0;
  for (const wire of values.wire) {
    const { ok, line, details } = await compareAt(wire, directUrl, gatewayUrl, values.token ?? process.env.MREG_API_KEY, values.apart);
    console.log(`${ok ? 'PASS' : 'FAIL'} ${line}`);
    for (const detail of details) console.log(detail);
    if (!ok) failed++;
  }
  process.exit(failed ? 1 : 0);
}
