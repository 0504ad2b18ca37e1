#!/usr/bin/env node
// Proves that the oracle is not blind: puts each fault of mutations.mjs in front of an upstream and expects the oracle to report
// a difference in at least one era, and none through a shim that changes nothing. Takes two or three minutes.
//
//   check_oracle.mjs [UPSTREAM_MCP_URL]    by default over weird_upstream.mjs, two of them, so that two faults are tried at once
//
// Nothing comes back from a cancelled call, so that one fault is shown to the checks of streams.mjs instead.
import { startShim } from './shim.mjs';
import { faults } from './mutations.mjs';
import { cancellation, resumption } from './streams.mjs';
import { start, run, freePort, node24, python, here, stopAll, untilHttp } from './procs.mjs';

if (!('rawJSON' in JSON)) { // the faults must be the only difference, see shim.mjs
  const again = await run(node24, process.argv.slice(1), { seconds: 900 });
  process.stdout.write(again.output);
  process.exit(again.code);
}
const given = process.argv.slice(2).find(arg => arg.startsWith('http'));

async function weirdUpstream() {
  const port = await freePort();
  const child = start(`weird-${port}`, process.execPath, [here('weird_upstream.mjs'), String(port)]);
  await untilHttp(`http://127.0.0.1:${port}/seen`, { child });
  return `http://127.0.0.1:${port}/mcp`;
}

async function differences(direct, change, era) {
  const { origin, pathname } = new URL(direct);
  const shim = await startShim(origin, 0, change);
  const { output } = await run(python, [here('oracle.py'), direct, `http://127.0.0.1:${shim.port}${pathname}`, '--era', era, '--most', '0'], { seconds: 180 });
  shim.close();
  const found = /(\d+) differences/.exec(output);
  if (!found) throw new Error(`the oracle did not finish with ${change} in ${era}:\n${output}`);
  return Number(found[1]);
}

try {
  const upstreams = given ? [given] : [await weirdUpstream(), await weirdUpstream()];
  const queue = [undefined, ...Object.keys(faults)];
  let failed = 0, caught = 0;
  await Promise.all(upstreams.map(async direct => {
    while (queue.length) {
      const change = queue.shift();
      const counts = [await differences(direct, change, 'legacy'), await differences(direct, change, 'modern')];
      const seen = counts.some(Boolean);
      const ok = change === undefined ? !seen : seen;
      if (!ok) failed++; else if (seen) caught++;
      console.log(`${ok ? 'PASS' : 'FAIL'} ${change ?? 'a shim that changes nothing'}: legacy ${counts[0]}, modern ${counts[1]} differences`);
    }
  }));
  if (!given) {
    const [direct] = upstreams, { origin } = new URL(direct);
    const through = async (change, check) => {
      const shim = await startShim(origin, 0, change);
      const { ok } = await check(`http://127.0.0.1:${shim.port}/mcp`).catch(() => ({ ok: false }));
      shim.close();
      return ok;
    };
    const checks = {
      'ignore-cancellation in the legacy era': ['ignore-cancellation', url => cancellation(url, {}, 'legacy')],
      'ignore-cancellation in the modern era': ['ignore-cancellation', url => cancellation(url, {}, 'modern')],
      'drop-last-event-id on resumption': ['drop-last-event-id', url => resumption(url, {})],
      'drop-event-ids on resumption': ['drop-event-ids', url => resumption(url, {})],
    };
    for (const [name, [change, check]] of Object.entries(checks)) {
      const ok = await through(undefined, check) && !(await through(change, check));
      if (!ok) failed++;
      console.log(`${ok ? 'PASS' : 'FAIL'} ${name}: seen by its own check`);
    }
  }
  console.log(`RESULT ${caught} of ${Object.keys(faults).length} faults seen by the oracle`);
  process.exitCode = failed ? 1 : 0;
} finally {
  await stopAll();
}
