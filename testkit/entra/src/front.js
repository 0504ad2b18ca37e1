// Every request comes here: it is noted in the log, met by the faults that a test ordered, and sent to who answers it.
import { createHash } from 'node:crypto';
import { Aadsts } from './aadsts.js';
import { authorize, handToEngine } from './authorize.js';
import { managedIdentityToken } from './clients.js';
import { controls } from './controls.js';
import { applyFaults } from './faults.js';
import { graph } from './graph.js';
import { readForm, send } from './http.js';
import { homeRealmForm, interaction } from './sign_in.js';
import { token } from './token.js';
import { ALIASES, DISCOVERY_CACHE, discovery, discoveryV1 } from './wording.js';

const LARGEST_LOG = 5000;

/** A request listener for this stand-in. */
export const front = entra => (request, response) => {
  handle(entra, request, response).catch(error => {
    console.error(error);
    if (response.headersSent) response.destroy();
    else send(response, 500, { error: 'server_error', error_description: String(error.message) });
  });
};

function note(entra, request, response, url) {
  const entry = { at: new Date().toISOString(), method: request.method, path: url.pathname }, began = Date.now();
  if (url.pathname.startsWith('/_sim')) return entry;
  entra.log.push(entry);
  if (entra.log.length > LARGEST_LOG) entra.log.shift();
  response.on('close', () => Object.assign(entry, { status: response.headersSent ? response.statusCode : null, ms: Date.now() - began, aadsts: response.simAadsts, fault: response.simFault }));
  return entry;
}

function refuse(entra, response, error) {
  response.simAadsts = error.code;
  return send(response, error.status, error.body(entra.base), { pragma: 'no-cache' });
}

async function handle(entra, request, response) {
  const url = new URL(request.url, entra.base);
  const entry = note(entra, request, response, url);
  if (url.pathname === '/healthz') return send(response, 200, { ok: true });
  if (url.pathname.startsWith('/_sim/')) return controls(entra, request, response, url);
  if (url.pathname.startsWith('/graph/')) return (await applyFaults(entra, request, response, { endpoint: 'graph', path: url.pathname })) || graph(entra, request, response, url);
  if (url.pathname === '/metadata/identity/oauth2/token') {
    if (request.headers.metadata !== 'true') return send(response, 400, { error: 'invalid_request', error_description: 'Required metadata header not specified' });
    return send(response, 200, await managedIdentityToken(entra, url.searchParams.get('resource')));
  }
  if (url.pathname === '/common/discovery/instance') return send(response, 200, instance(entra));

  const [, segment, rest] = url.pathname.match(/^\/([^/]+)(\/.*)$/) ?? [];
  if (!segment) return send(response, 404, { error: 'not_found' });
  const tid = entra.tenantFor(segment);
  const alias = ALIASES.includes(segment);
  if (!tid && !alias) return refuse(entra, response, new Aadsts(90002, { detail: `Tenant '${segment}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.` }));

  const endpoint = endpointOf(rest);
  const form = endpoint === 'token' && request.method === 'POST' ? await readForm(request) : undefined;
  const asked = form ?? (endpoint === 'authorize' ? Object.fromEntries(url.searchParams) : undefined);
  if (form?.refresh_token) entry.shown = createHash('sha256').update(form.refresh_token).digest('hex');
  if (asked) Object.assign(entry, { grant_type: asked.grant_type, client_id: asked.client_id, scope: asked.scope, resource: asked.resource, pkce: (form ? asked.code_verifier : asked.code_challenge) !== undefined });
  if (await applyFaults(entra, request, response, { endpoint, tenant: tid ?? segment, ...entry })) return undefined;

  switch (endpoint) {
    case 'discovery':
      if (alias) return send(response, 200, discovery(entra, segment), { 'cache-control': DISCOVERY_CACHE });
      return rest.startsWith('/v2.0/') ? handToEngine(entra, request, response, tid, '/.well-known/openid-configuration') : send(response, 200, discoveryV1(entra, tid));
    case 'keys':
      if (alias) return send(response, 200, entra.allJwks());
      return rest.startsWith('/discovery/v2.0/') ? handToEngine(entra, request, response, tid, '/discovery/v2.0/keys') : send(response, 200, entra.publicJwks(tid, { v2: false }));
    case 'authorize':
      return authorize(entra, request, response, segment, tid, url);
    case 'token':
      if (!form) return handToEngine(entra, request, response, tid ?? entra.tenantIds()[0], rest);
      try {
        return await token(entra, request, response, tid, form);
      } catch (error) {
        if (!(error instanceof Aadsts)) throw error;
        return refuse(entra, response, error);
      }
    default:
  }
  if (alias) return rest.startsWith('/hrd') && request.method === 'POST' ? homeRealmForm(entra, request, response, url) : send(response, 404, { error: 'not_found' });
  if (rest.startsWith('/login/')) return interaction(entra, request, response, tid, rest);
  return handToEngine(entra, request, response, tid, rest + url.search);
}

function endpointOf(path) {
  if (path.endsWith('/.well-known/openid-configuration')) return 'discovery';
  if (path.startsWith('/discovery/')) return 'keys';
  return { '/oauth2/v2.0/authorize': 'authorize', '/oauth2/v2.0/token': 'token' }[path] ?? 'other';
}

function instance({ base }) {
  const { host } = new URL(base);
  return { tenant_discovery_endpoint: `${base}/common/v2.0/.well-known/openid-configuration`, 'api-version': '1.1', metadata: [{ preferred_network: host, preferred_cache: host, aliases: [host] }] };
}
