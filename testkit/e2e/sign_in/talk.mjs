// Raw requests to an authorization server, for the differential: nothing is checked here, and every answer becomes one short line
// that two servers can be compared by.
import { createHash, randomBytes } from 'node:crypto';
import { Browser } from './browser.mjs';
import { CALLBACK } from './known.mjs';

const challengeOf = verifier => createHash('sha256').update(verifier).digest('base64url');

/** Pairs of a query or form: a list gives several of one name, `undefined` leaves it out. */
const pairs = fields => Object.entries(fields).flatMap(([name, value]) => [value].flat().filter(one => one !== undefined).map(one => [name, one]));
const encoded = fields => new URLSearchParams(pairs(fields)).toString();

/** Which of these members an answer has; their values are each server's own. */
const present = (body, names) => names.filter(name => body?.[name] !== undefined && body[name] !== '');
const kind = status => `${Math.floor(status / 100)}xx`;
// Clients act on 401; which other 4xx it is they do not look at.
const refused = status => (status === 401 ? '401' : kind(status));
const json = text => { try { return JSON.parse(text); } catch { return undefined; } };

export class Server {
  /** `person` is who signs in: {user, password}. */
  static async at(issuer, person = {}) {
    const server = new Server();
    Object.assign(server, { issuer, person });
    server.metadata = await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json();
    server.resource = `${issuer}/mcp`;
    return server;
  }

  /** The id of a client that registers itself; once, as a server bounds how many one address may register. */
  register(more = {}) {
    const key = JSON.stringify(more);
    return (this.clients ??= {})[key] ??= this.registerNow(more);
  }

  async registerNow(more) {
    const asked = { client_name: 'Differential', application_type: 'native', redirect_uris: [CALLBACK], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none', scope: 'mcp offline_access', ...more };
    const response = await fetch(this.metadata.registration_endpoint, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(asked) });
    const body = await response.json();
    if (!response.ok) throw new Error(`${this.issuer} registered nobody: ${JSON.stringify(body)}`);
    return body.client_id;
  }

  authorizeUrl(clientId, verifier, fields = {}) {
    const usual = { response_type: 'code', client_id: clientId, redirect_uri: CALLBACK, state: 'st ate', code_challenge: challengeOf(verifier), code_challenge_method: 'S256', scope: 'mcp offline_access', prompt: 'consent', resource: this.resource };
    return `${this.metadata.authorization_endpoint}?${encoded({ ...usual, ...fields })}`;
  }

  /** Signs in and gives what is needed to redeem the code. */
  async code(clientId, fields = {}) {
    const verifier = randomBytes(32).toString('base64url');
    const back = await new Browser(this.person).walk(this.authorizeUrl(clientId, verifier, fields), CALLBACK);
    if (!back.searchParams.has('code')) throw new Error(`no code from ${this.issuer}: ${back.search}`);
    return { code: back.searchParams.get('code'), verifier, clientId };
  }

  /** The tokens of a whole sign-in. */
  async tokens(clientId, fields = {}) {
    const { body } = await this.post('token_endpoint', this.redemption(await this.code(clientId, fields)));
    if (!body?.access_token) throw new Error(`no token from ${this.issuer}: ${JSON.stringify(body)}`);
    return { ...body, clientId };
  }

  redemption({ code, verifier, clientId }, fields = {}) {
    return { grant_type: 'authorization_code', code, code_verifier: verifier, client_id: clientId, redirect_uri: CALLBACK, resource: this.resource, ...fields };
  }

  refreshment({ refresh_token, clientId }, fields = {}) {
    return { grant_type: 'refresh_token', refresh_token, client_id: clientId, resource: this.resource, ...fields };
  }

  async post(endpoint, fields, { method = 'POST', headers = {}, body } = {}) {
    const sent = method === 'GET' ? undefined : body ?? encoded(fields);
    const response = await fetch(this.metadata[endpoint], { method, headers: { ...(sent === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }), ...headers }, body: sent });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, body: json(text) };
  }

  // ---- one line each

  /** Where the first answer to an authorization request leads: on to the person, back to the client, or to a page of its own. */
  async authorize(clientId, fields = {}, { method = 'GET' } = {}) {
    const url = new URL(this.authorizeUrl(clientId, 'v'.repeat(43), fields));
    const browser = new Browser(this.person);
    const request = method === 'GET' ? {} : { method, form: url.search.slice(1) };
    if (method !== 'GET') url.search = '';
    const answer = await browser.step(url, request);
    if (answer.location && !answer.location.href.startsWith(this.issuer)) {
      const back = answer.location.searchParams;
      const inFragment = new URLSearchParams(answer.location.hash.slice(1));
      const found = back.has('error') || back.has('code') ? back : inFragment;
      const to = answer.location.href.startsWith(CALLBACK) ? 'to the client' : `to ${answer.location.origin}`;
      return `${to}: ${found.get('error') ?? 'code'}${found.get('iss') === this.issuer ? ' +iss' : ''}${found.get('state') === 'st ate' ? ' +state' : ''}${found === inFragment ? ' in the fragment' : ''}`;
    }
    if (answer.location) return 'on to the person';
    return answer.status < 300 && /<form/i.test(answer.body) ? 'on to the person' : `a page, ${kind(answer.status)}`;
  }

  async token(fields, request) {
    const answer = await this.post('token_endpoint', fields, request);
    const { status, headers, body } = answer;
    const stored = body === undefined || /no-store/.test(headers.get('cache-control') ?? '') ? '' : ' (may be stored)';
    if (status >= 400) return `${refused(status)} ${body?.error ?? 'no error code'}${stored}`;
    return `${kind(status)} ${present(body, ['access_token', 'token_type', 'expires_in', 'refresh_token', 'scope']).join(' ')}${stored}`;
  }

  async revoke(fields, request) {
    const { status, body } = await this.post('revocation_endpoint', fields, request);
    return status >= 400 ? `${refused(status)} ${body?.error ?? 'no error code'}` : kind(status);
  }

  /** What the resource says of a token. */
  async use(token) {
    const response = await fetch(this.resource, { method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', authorization: `Bearer ${token}`, 'mcp-protocol-version': '2025-11-25' }, body: '{"jsonrpc":"2.0","id":1,"method":"ping"}' });
    await response.body?.cancel();
    const challenge = response.headers.get('www-authenticate') ?? '';
    return response.status === 401 ? `401${/resource_metadata=/.test(challenge) ? ' +resource_metadata' : ''} ${/error="(\w+)"/.exec(challenge)?.[1] ?? 'no error'}` : 'let in';
  }

  async registration(body, { method = 'POST', type = 'application/json' } = {}) {
    const { status, body: answer } = await this.post('registration_endpoint', {}, { method, headers: { 'content-type': type }, body: typeof body === 'string' ? body : JSON.stringify(body) });
    if (status >= 400) return `${refused(status)} ${answer?.error ?? 'no error code'}`;
    return `${status} ${present(answer, ['client_id', 'client_secret', 'redirect_uris', 'token_endpoint_auth_method', 'grant_types']).join(' ')}`;
  }
}
