#!/usr/bin/env node
// The suite's client scenarios that judge how a gateway speaks to its upstreams: with MREG_GATEWAY_URL and MREG_API_KEY set they
// go through that gateway, else straight to the scenario server, which shows what the SDK client can do by itself.
//
//   client_mode.mjs [SCENARIO@VERSION]…
import { pathToFileURL } from 'node:url';
import { conformance } from './conformance.mjs';
import { node24, here } from './procs.mjs';

export const clientScenarios = [
  ...['initialize', 'tools_call', 'elicitation-sep1034-client-defaults', 'sse-retry', 'json-schema-2020-12-preservation'].map(name => `${name}@2025-11-25`),
  ...['tools_call', 'request-metadata', 'sep-2322-client-request-state', 'http-standard-headers', 'http-custom-headers', 'http-invalid-tool-headers', 'json-schema-ref-no-deref', 'json-schema-2020-12-preservation'].map(name => `${name}@2026-07-28`),
];

export async function clientScenario(which, env = {}) {
  const [scenario, version] = which.split('@');
  const begun = Date.now();
  const { scenarios, output } = await conformance(['client', '--command', `${node24} ${here('clients/conformance_client.mjs')}`, '--scenario', scenario, '--spec-version', version], { env, seconds: 60 });
  const found = [...scenarios.values()][0];
  const passed = found?.passed ?? 0, failures = found?.failures ?? ['the scenario did not run'];
  // A client that fails leaves its trace in what the suite printed.
  const trace = failures.length ? output.split('\n').filter(line => /Error|error|exited/.test(line)).slice(0, 6) : [];
  return { ok: !!found && failures.length === 0 && passed > 0, line: `client ${which}  ${passed} checks, ${failures.length} failures  ${((Date.now() - begun) / 1000).toFixed(1)} s`, details: [...failures, ...trace].map(text => `  ${text.slice(0, 300)}`) };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const chosen = process.argv.slice(2).length ? process.argv.slice(2) : clientScenarios;
  let failed = 0;
  for (const which of chosen) {
    const { ok, line, details } = await clientScenario(which);
    console.log(`${ok ? 'PASS' : 'FAIL'} ${line}`);
    if (!ok) { failed++; details.forEach(detail => console.log(detail)); }
  }
  process.exit(failed ? 1 : 0);
}
