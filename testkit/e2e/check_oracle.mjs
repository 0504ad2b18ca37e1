#!/usr/bin/env node
// Proves that the oracle is not blind: puts each fault of mutations.mjs in front of an upstream and expects the oracle to report
// a difference in at least one era, and none through a shim that changes nothing. Takes two or three minutes.
//
//   check_oracle.mjs [UPSTREAM_MCP_URL] [--unseen]    by default over weird_upstream.mjs, two of them, so that two faults are
//                                                     tried at once; --unseen also tries the faults it is not meant to see
import { startShim } from './shim.mjs';
import { faults, unseen } from './mutations.mjs';
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
  const queue = [undefined, ...Object.keys(faults), ...(process.argv.includes('--unseen') ? Object.keys(unseen) : [])];
  let failed = 0, caught = 0;
  await Promise.all(upstreams.map(async direct => {
    while (queue.length) {
      const change = queue.shift();
      const counts = [await differences(direct, change, 'legacy'), await differences(direct, change, 'modern')];
      const seen = counts.some(Boolean);
      const meant = change !== undefined && change in faults;
      if (seen && meant) caught++;
      const ok = change === undefined ? !seen : seen || !meant;
      if (!ok) failed++;
      console.log(`${meant || change === undefined ? (ok ? 'PASS' : 'FAIL') : 'note'} ${change ?? 'a shim that changes nothing'}: legacy ${counts[0]}, modern ${counts[1]} differences`);
    }
  }));
  console.log(`RESULT ${caught} of ${Object.keys(faults).length} faults seen by the oracle`);
  process.exitCode = failed ? 1 : 0;
} finally {
  await stopAll();
}
