#!/usr/bin/env node
// Signing in with the official TypeScript SDKs as a desktop program does: refused, discovery, a client id, the browser, the code,
// a list of tools; then a refresh, and a replayed sign-in. Prints a line per stop and exits 0 only if none failed.
//
//   oauth_client.mjs URL --how dcr|document|registered [--v1] [--era legacy|auto|2026-07-28] [--document HTTPS_URL]
//                    [--client-id ID [--client-secret SECRET]] [--user NAME] [--password WORD] [--chromium]
import { parseArgs } from 'node:util';
import { Browser } from '../sign_in/browser.mjs';
import { Chromium } from '../sign_in/chromium.mjs';
import { CALLBACK } from '../sign_in/known.mjs';
import { program } from './program.mjs';

const { values: options, positionals: [target] } = parseArgs({
  allowPositionals: true,
  options: {
    how: { type: 'string', default: 'dcr' }, v1: { type: 'boolean', default: false }, era: { type: 'string', default: 'auto' }, document: { type: 'string' },
    'client-id': { type: 'string' }, 'client-secret': { type: 'string' }, user: { type: 'string' }, password: { type: 'string' },
    chromium: { type: 'boolean', default: false },
  },
});
const module = async (...parts) => Object.assign({}, ...await Promise.all(parts.map(part => import(`@modelcontextprotocol/${part}`))));
const sdk = options.v1 ? await module('sdk/client/index.js', 'sdk/client/streamableHttp.js', 'sdk/client/auth.js') : await module('client');

let failed = 0;
const stop = (name, ok, seen = '') => {
  if (!ok && ok !== null) failed++;
  console.log(`${ok === null ? 'SKIP' : ok ? 'PASS' : 'FAIL'} ${name}${seen ? `: ${seen}` : ''}`);
};

const browser = options.chromium ? new Chromium(options) : new Browser(options);
const kept = {};
let asked, answer; // the authorization request, and where the browser ended
const provider = {
  ...program(kept, async url => {
    asked = new URL(url);
    answer = await browser.walk(asked, CALLBACK);
  }, options['client-secret'] ? 'client_secret_basic' : 'none'),
  ...(options.how === 'document' ? { clientMetadataUrl: options.document } : {}),
  invalidateCredentials: which => {
    if (which === 'all' || which === 'tokens') delete kept.tokens;
    if ((which === 'all' || which === 'client') && options.how !== 'registered') delete kept.client;
  },
};
if (options.how === 'registered') kept.client = { client_id: options['client-id'], ...(options['client-secret'] ? { client_secret: options['client-secret'] } : {}) };

const url = new URL(target);
const transport = () => new sdk.StreamableHTTPClientTransport(url, { authProvider: provider });
const client = () => new sdk.Client({ name: 'tour', version: '1.0.0' }, options.v1 ? {} : { versionNegotiation: { mode: options.era === '2026-07-28' ? { pin: options.era } : options.era } });
async function connect() {
  const [one, way] = [client(), transport()];
  await one.connect(way);
  return one;
}
const tools = async one => {
  const { tools: found } = await one.listTools();
  await one.close();
  return found.length;
};

async function refreshed(first) {
  kept.tokens = { ...first, access_token: 'no-such-token' };
  stop('an ended token is refreshed without the person', await tools(await connect()) > 0 && answer === undefined && kept.tokens.access_token !== first.access_token);
  stop('the refresh token is a new one', kept.tokens.refresh_token !== first.refresh_token);
}

try {
  const way = transport();
  let refused;
  try { await client().connect(way); } catch (error) { refused = error; }
  stop('refused without a token', refused && /nauthorized/.test(`${refused.name} ${refused.message}`), refused ? '' : 'it was let in');
  if (refused && !answer) throw refused;

  const from = name => asked.searchParams.get(name), back = name => answer.searchParams.get(name);
  stop('the request is the one that the specification asks for', from('code_challenge_method') === 'S256' && from('response_type') === 'code' && url.href.startsWith(from('resource')), `scope ${from('scope')}, resource ${from('resource')}`);
  stop('state comes back', back('state') === kept.state);
  stop('the answer names its issuer', new URL(back('iss') ?? 'about:blank').origin === asked.origin, back('iss'));
  const wantedId = { document: options.document, registered: options['client-id'] }[options.how];
  stop(`the client is known ${{ dcr: 'because it registered itself', document: 'by its document', registered: 'because it was registered' }[options.how]}`, wantedId === undefined ? Boolean(kept.client?.client_id) : from('client_id') === wantedId, from('client_id')?.slice(0, 60));

  await (options.v1 ? way.finishAuth(back('code')) : way.finishAuth(back('code'), back('iss') ?? undefined));
  const first = { ...kept.tokens };
  stop('tokens came', first.access_token && /^bearer$/i.test(first.token_type) && first.expires_in > 0, `${first.token_type}, ${first.expires_in} s, scope ${first.scope}`);
  stop('tools are listed', await tools(await connect()) > 0);

  // The older SDK asks only for what the challenge names, and gets one all the same: it names the grant type.
  stop('a refresh token came', first.refresh_token, `asked for ${from('scope')}`);
  answer = undefined;
  await refreshed(first);

  kept.tokens = { ...kept.tokens, access_token: 'no-such-token', refresh_token: 'no-such-token' };
  let again;
  try { await connect(); } catch (error) { again = error; }
  stop('without a good token the person is asked again', again && answer?.searchParams.has('code'), again ? '' : 'it was let in');
} catch (error) {
  stop('the tour', false, String(error.stack ?? error).slice(0, 600).replaceAll('\n', ' | '));
}
console.log(`RESULT ${failed} failed`);
process.exit(failed ? 1 : 0);
