// What the authorization servers here that are oidc-provider have in common: as strict as it can be set, on one origin of this machine,
// with pages on which a person says who they are and whether they agree.
import http from 'node:http';
import Provider, { errors } from 'oidc-provider';

/** PKCE always, refresh tokens that are good once (one that was replaced ends its family), access tokens for exactly one of `resources`, as
 * `resourceServer` describes them, `iss` in redirects, dynamic registration for everybody, metadata documents. `fetched` hears of each
 * URL that is read; who names no resource gets a token for `defaultResource`, if there is one. */
export function authority(issuer, { resources, resourceServer, defaultResource, fetched = () => {}, features = {}, ...more }) {
  const provider = new Provider(issuer, {
    responseTypes: ['code'],
    pkce: { required: () => true },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ['not a secret: this runs in tests'] },
    rotateRefreshToken: true,
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true, allowedPolicy: async (ctx, client, token) => token.clientId === client.clientId },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx, client, oneOf) => (oneOf ? [oneOf].flat()[0] : defaultResource),
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => {
          if (!resources.has(resource)) throw new errors.InvalidTarget();
          return resourceServer(resource);
        },
      },
      ...features,
    },
    // Its own fetch refuses addresses of this machine, where documents and keys are.
    fetch: (url, { dispatcher, ...rest }) => { fetched(String(url)); return fetch(url, rest); },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    ...more,
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider;
}

/** A page with this form. */
export const page = (title, form) => `<!doctype html><html lang="en"><head><title>${title}</title></head><body><main><h1>${title}</h1><form method="post">${form}</form></main></body></html>`;
export const ALLOW_OR_DENY = '<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button>';

/** One step of a person's way through `pages`, by the prompt; `accountOf` says who signs in with this form. */
export async function interaction(provider, { pages, accountOf }, request, response) {
  const details = await provider.interactionDetails(request, response);
  const { name } = details.prompt;
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    return response.end(pages[name]);
  }
  const form = new URLSearchParams(await read(request));
  if (!form.get('decision') || form.get('decision') === 'deny') return provider.interactionFinished(request, response, { error: 'access_denied' });
  if (name === 'login') return provider.interactionFinished(request, response, { login: { accountId: accountOf(form) } });
  const { accountId } = details.session, clientId = details.params.client_id;
  const grant = (details.grantId && await provider.Grant.find(details.grantId)) || new provider.Grant({ accountId, clientId });
  const { missingOIDCScope = [], missingResourceScopes = {} } = details.prompt.details;
  if (missingOIDCScope.length) grant.addOIDCScope(missingOIDCScope.join(' '));
  for (const [resource, scopes] of Object.entries(missingResourceScopes)) grant.addResourceScope(resource, scopes.join(' '));
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

export async function read(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return body;
}

/** Listens on this machine; `answering` makes what answers at this issuer. Prints one line of JSON then. */
export function listen(port, answering) {
  const server = http.createServer();
  server.listen(Number(port), '127.0.0.1', () => {
    const issuer = `http://127.0.0.1:${server.address().port}`;
    const answer = answering(issuer);
    const failed = (error, response) => { console.error(error); response.destroy(); };
    server.on('request', async (request, response) => { try { await answer(request, response); } catch (error) { failed(error, response); } });
    console.log(JSON.stringify({ url: issuer }));
  });
}
