// The requests of the differential, good and bad. A case gives one line; it makes whatever it needs (a client, a code, tokens) and
// shares nothing with another.
import { CALLBACK, registered } from './known.mjs';

const basic = ({ client_id: id, client_secret: secret }, wrong = '') => ({ authorization: `Basic ${Buffer.from(`${id}:${secret}${wrong}`).toString('base64')}` });

/** A second client. */
const ANOTHER = { client_name: 'Another' };

/** An authorization request with something else about it. */
const asked = (fields, more) => async server => server.authorize(await server.register(), typeof fields === 'function' ? fields(server) : fields, more);

const authorize = {
  'a good request': asked({}),
  'a client known by its document': (server, { document }) => server.authorize(document),
  'a document that says it is another': (server, { stranger }) => server.authorize(stranger),
  'a document that is not there': (server, { document }) => server.authorize(`${document}.not`),
  'a document over plain http': (server, { document }) => server.authorize(document.replace('https:', 'http:')),
  'a registered client': server => server.authorize('tour-public'),
  'an unknown client': server => server.authorize('nobody'),
  'no client': asked({ client_id: undefined }),
  'two clients': async server => server.authorize(undefined, { client_id: [await server.register(), 'tour-public'] }),
  'no redirect URI, one registered': asked({ redirect_uri: undefined }),
  'a redirect URI at another path': asked({ redirect_uri: `${CALLBACK}/more` }),
  'a redirect URI with a query': asked({ redirect_uri: `${CALLBACK}?more=1` }),
  'a redirect URI at another host': asked({ redirect_uri: 'https://elsewhere.example/callback' }),
  'a redirect URI with a fragment': asked({ redirect_uri: `${CALLBACK}#part` }),
  'a redirect URI with a name and password': asked({ redirect_uri: CALLBACK.replace('127.0.0.1', 'a:b@127.0.0.1') }),
  'a redirect URI that is a script': asked({ redirect_uri: 'javascript:alert(1)' }),
  'another port on this machine': asked({ redirect_uri: CALLBACK.replace('7777', '7778') }),
  'localhost for 127.0.0.1': asked({ redirect_uri: CALLBACK.replace('127.0.0.1', 'localhost') }),
  'two redirect URIs': asked({ redirect_uri: [CALLBACK, CALLBACK] }),
  'no response type': asked({ response_type: undefined }),
  'response type token': asked({ response_type: 'token' }),
  'response type code id_token': asked({ response_type: 'code id_token' }),
  'an unknown response type': asked({ response_type: 'fruit' }),
  'no challenge': asked({ code_challenge: undefined, code_challenge_method: undefined }),
  'a challenge without a method': asked({ code_challenge_method: undefined }),
  'a plain challenge': asked({ code_challenge_method: 'plain' }),
  'an unknown challenge method': asked({ code_challenge_method: 'S512' }),
  'a challenge that is too short': asked({ code_challenge: 'short' }),
  'a challenge that is too long': asked({ code_challenge: 'c'.repeat(129) }),
  'a challenge with other characters': asked({ code_challenge: `${'c'.repeat(42)}!` }),
  'a method without a challenge': asked({ code_challenge: undefined }),
  'two challenges': asked({ code_challenge: ['c'.repeat(43), 'd'.repeat(43)] }),
  'two states': asked({ state: ['st ate', 'other'] }),
  'no state': asked({ state: undefined }),
  'no scope': asked({ scope: undefined }),
  'an unknown scope': asked({ scope: 'mcp fruit' }),
  'only unknown scopes': asked({ scope: 'fruit' }),
  'no resource': asked({ resource: undefined }),
  'a foreign resource': asked({ resource: 'https://elsewhere.example/mcp' }),
  'a resource with a fragment': asked(server => ({ resource: `${server.resource}#part` })),
  'a resource that is no URI': asked({ resource: 'fruit' }),
  'prompt none': asked({ prompt: 'none' }),
  'prompt none and more': asked({ prompt: 'none consent' }),
  'the answer in the fragment': asked({ response_mode: 'fragment', response_type: 'fruit' }),
  'an unknown response mode': asked({ response_mode: 'fruit' }),
  'a request object': asked({ request: 'e30.e30.' }),
  'a request by reference': asked({ request_uri: 'https://elsewhere.example/request' }),
  'an unknown parameter': asked({ fruit: 'apple' }),
  'by POST': asked({}, { method: 'POST' }),
  'by PUT': asked({}, { method: 'PUT' }),
};

/** The redemption of a fresh code with something else about it. */
const redeemed = (fields, request) => async server => {
  const made = await server.code(await server.register());
  return server.token(server.redemption(made, typeof fields === 'function' ? await fields(server, made) : fields), request);
};
const withSecret = (id, more, request) => async server => {
  const client = registered(id), made = await server.code(id);
  return server.token(server.redemption(made, more(client)), request?.(client));
};

const token = {
  'a good code': redeemed({}),
  'a code of a client known by its document': async (server, { document }) => server.token(server.redemption(await server.code(document))),
  'a code asked for without a resource': async server => server.token(server.redemption(await server.code(await server.register(), { resource: undefined }), { resource: undefined })),
  'no refresh token is asked for': async server => server.token(server.redemption(await server.code(await server.register(), { scope: 'mcp' }))),
  'a code twice': async server => {
    const made = await server.code(await server.register());
    return `${await server.token(server.redemption(made))}, then ${await server.token(server.redemption(made))}`;
  },
  'the access token after its code came twice': async server => {
    const made = await server.code(await server.register());
    const { body } = await server.post('token_endpoint', server.redemption(made));
    await server.token(server.redemption(made));
    return server.use(body.access_token);
  },
  'the refresh token after its code came twice': async server => {
    const made = await server.code(await server.register());
    const { body } = await server.post('token_endpoint', server.redemption(made));
    await server.token(server.redemption(made));
    return server.token(server.refreshment({ ...body, clientId: made.clientId }));
  },
  'an unknown code': redeemed({ code: 'no-such-code' }),
  'no code': redeemed({ code: undefined }),
  'a wrong verifier': redeemed({ code_verifier: 'w'.repeat(43) }),
  'no verifier': redeemed({ code_verifier: undefined }),
  'a verifier that is too short': redeemed({ code_verifier: 'short' }),
  'the challenge as verifier': redeemed((server, { verifier }) => ({ code_verifier: new URL(server.authorizeUrl('x', verifier)).searchParams.get('code_challenge') })),
  'another redirect URI': redeemed({ redirect_uri: `${CALLBACK}/more` }),
  'no redirect URI': redeemed({ redirect_uri: undefined }),
  'another client': redeemed(async server => ({ client_id: await server.register(ANOTHER) })),
  'an unknown client': redeemed({ client_id: 'nobody' }),
  'no client': redeemed({ client_id: undefined }),
  'a foreign resource': redeemed({ resource: 'https://elsewhere.example/mcp' }),
  'no resource': redeemed({ resource: undefined }),
  'two codes': redeemed((server, { code }) => ({ code: [code, code] })),
  'two grant types': redeemed({ grant_type: ['authorization_code', 'authorization_code'] }),
  'no grant type': redeemed({ grant_type: undefined }),
  'an unknown grant type': redeemed({ grant_type: 'fruit' }),
  'the password grant': redeemed({ grant_type: 'password', username: 'a', password: 'b' }),
  'the client credentials of a client without any': redeemed({ grant_type: 'client_credentials' }),
  'in JSON': redeemed({}, { headers: { 'content-type': 'application/json' }, body: '{"grant_type":"authorization_code"}' }),
  'an empty body': redeemed({}, { body: '' }),
  'by GET': redeemed({}, { method: 'GET' }),
  'by PUT': redeemed({}, { method: 'PUT' }),
  'with its secret in the header': withSecret('tour-secret', () => ({ client_id: undefined }), client => ({ headers: basic(client) })),
  'with its secret in the header and its name in both': withSecret('tour-secret', () => ({}), client => ({ headers: basic(client) })),
  'with a wrong secret in the header': withSecret('tour-secret', () => ({ client_id: undefined }), client => ({ headers: basic(client, 'x') })),
  'with a header that is no base64': withSecret('tour-secret', () => ({ client_id: undefined }), () => ({ headers: { authorization: 'Basic !!!' } })),
  'with its secret in the body': withSecret('tour-post', client => ({ client_secret: client.client_secret })),
  'with a wrong secret in the body': withSecret('tour-post', client => ({ client_secret: `${client.client_secret}x` })),
  'without the secret that it has': withSecret('tour-post', () => ({})),
  'with its secret twice': withSecret('tour-post', client => ({ client_secret: client.client_secret }), client => ({ headers: basic(client) })),
};

/** A refresh of fresh tokens with something else about it. */
const refreshed = (fields, request) => async server => {
  const made = await server.tokens(await server.register());
  return server.token(server.refreshment(made, typeof fields === 'function' ? await fields(server, made) : fields), request);
};

const refresh = {
  'a good refresh': refreshed({}),
  'without a resource': refreshed({ resource: undefined }),
  'a narrower scope': refreshed({ scope: 'mcp' }),
  'a wider scope': refreshed({ scope: 'mcp admin offline_access' }),
  'an unknown scope': refreshed({ scope: 'fruit' }),
  'a foreign resource': refreshed({ resource: 'https://elsewhere.example/mcp' }),
  'another resource than the one granted': refreshed(server => ({ resource: `${server.resource}/other` })),
  'by another client': refreshed(async server => ({ client_id: await server.register(ANOTHER) })),
  'without a client': refreshed({ client_id: undefined }),
  'an unknown token': refreshed({ refresh_token: 'no-such-token' }),
  'no token': refreshed({ refresh_token: undefined }),
  'an access token': refreshed((server, { access_token }) => ({ refresh_token: access_token })),
  'two tokens': refreshed((server, { refresh_token }) => ({ refresh_token: [refresh_token, refresh_token] })),
  'a spent token at once': async server => {
    const made = await server.tokens(await server.register());
    await server.token(server.refreshment(made));
    return server.token(server.refreshment(made));
  },
  'a spent token whose successors were used': async server => {
    const made = await server.tokens(await server.register());
    const second = (await server.post('token_endpoint', server.refreshment(made))).body;
    const third = (await server.post('token_endpoint', server.refreshment({ ...second, clientId: made.clientId }))).body;
    await server.use(third.access_token);
    const replay = await server.token(server.refreshment(made));
    return `${replay}, and then the newest: ${await server.token(server.refreshment({ ...third, clientId: made.clientId }))}, ${await server.use(third.access_token)}`;
  },
};

/** A revocation, and what is left after it. */
const revoked = (fields, after) => async server => {
  const made = await server.tokens(await server.register());
  const answer = await server.revoke({ client_id: made.clientId, ...(typeof fields === 'function' ? await fields(made, server) : fields) });
  return after ? `${answer}, then ${await after(server, made)}` : answer;
};

const revoke = {
  'an access token': revoked(made => ({ token: made.access_token }), (server, made) => server.use(made.access_token)),
  'a refresh token': revoked(made => ({ token: made.refresh_token }), (server, made) => server.token(server.refreshment(made))),
  'a refresh token ends the access token too': revoked(made => ({ token: made.refresh_token }), (server, made) => server.use(made.access_token)),
  'with the wrong hint': revoked(made => ({ token: made.refresh_token, token_type_hint: 'access_token' }), (server, made) => server.token(server.refreshment(made))),
  'with an unknown hint': revoked(made => ({ token: made.refresh_token, token_type_hint: 'fruit' })),
  'an unknown token': revoked({ token: 'no-such-token' }),
  'no token': revoked({}),
  'two tokens': revoked(made => ({ token: [made.access_token, made.access_token] })),
  'an unknown client': revoked(made => ({ token: made.refresh_token, client_id: 'nobody' })),
  'no client': revoked(made => ({ token: made.refresh_token, client_id: undefined })),
  'a token of another client': revoked(async (made, server) => ({ token: made.refresh_token, client_id: await server.register(ANOTHER) }), async (server, made) => server.token(server.refreshment(made))),
  'by GET': async server => server.revoke({}, { method: 'GET' }),
};

const use = {
  'a good token': async server => server.use((await server.tokens(await server.register())).access_token),
  'no such token': server => server.use('no-such-token'),
  'a refresh token': async server => server.use((await server.tokens(await server.register())).refresh_token),
  'a code': async server => server.use((await server.code(await server.register())).code),
};

const whole = { client_name: 'Differential', application_type: 'native', redirect_uris: [CALLBACK], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none' };
const registering = (more, request) => server => server.registration(typeof more === 'string' ? more : { ...whole, ...more }, request);
const register = {
  'a public client': registering({}),
  'a client that leaves the method to the server': registering({ token_endpoint_auth_method: undefined }),
  'a client with a secret': registering({ token_endpoint_auth_method: 'client_secret_basic' }),
  'only redirect URIs': server => server.registration({ redirect_uris: [CALLBACK], application_type: 'native', token_endpoint_auth_method: 'none' }),
  'unknown members': registering({ fruit: 'apple', software_version: '1' }),
  'no redirect URIs': registering({ redirect_uris: undefined }),
  'an empty list of redirect URIs': registering({ redirect_uris: [] }),
  'redirect URIs that are no list': registering({ redirect_uris: CALLBACK }),
  'a script': registering({ redirect_uris: ['javascript:alert(1)'] }),
  'data': registering({ redirect_uris: ['data:text/html,x'] }),
  'a fragment': registering({ redirect_uris: [`${CALLBACK}#part`] }),
  'plain http elsewhere': registering({ redirect_uris: ['http://elsewhere.example/callback'] }),
  'https elsewhere': registering({ redirect_uris: ['https://elsewhere.example/callback'], application_type: 'web' }),
  'a redirect URI that is none': registering({ redirect_uris: ['fruit'] }),
  'an unknown method': registering({ token_endpoint_auth_method: 'fruit' }),
  'an unknown grant type': registering({ grant_types: ['fruit'] }),
  'an implicit client': registering({ grant_types: ['implicit'], response_types: ['token'] }),
  'no JSON': registering('{'),
  'a list': registering('[]'),
  'a form': registering('redirect_uris=x', { type: 'application/x-www-form-urlencoded' }),
  'by PUT': registering({}, { method: 'PUT' }),
};

const metadata = {
  'what must be there': server => Promise.resolve(['issuer', 'authorization_endpoint', 'token_endpoint', 'registration_endpoint', 'revocation_endpoint', 'response_types_supported', 'grant_types_supported', 'code_challenge_methods_supported', 'scopes_supported', 'token_endpoint_auth_methods_supported'].filter(name => server.metadata[name] !== undefined).join(' ')),
  'what a client may rely on': ({ metadata: found }) => Promise.resolve(['authorization_response_iss_parameter_supported', 'client_id_metadata_document_supported'].map(name => `${name} ${found[name] === true}`).join(', ')),
  'challenges': ({ metadata: found }) => Promise.resolve(String(found.code_challenge_methods_supported)),
  'responses': ({ metadata: found }) => Promise.resolve(String(found.response_types_supported)),
  'the issuer is the address': ({ metadata: found, issuer }) => Promise.resolve(String(found.issuer === issuer)),
};

export const cases = Object.entries({ metadata, authorize, token, refresh, revoke, use, register }).flatMap(([family, list]) => Object.entries(list).map(([name, work]) => ({ name: `${family}: ${name}`, work })));
