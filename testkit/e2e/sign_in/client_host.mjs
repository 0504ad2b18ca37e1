// A client's own https host for its metadata document, and the authority that vouches for the host: made anew each time, valid for
// a day, with keys in the folder given.
import https from 'node:https';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CALLBACK } from './known.mjs';

/** Gives {origin, ca: the file of the authority's certificate, document: the client id, seen: requests, close}. */
export async function startClientHost(folder) {
  const at = name => join(folder, name);
  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' });
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', '1', '-subj', '/CN=tour', '-addext', 'basicConstraints=critical,CA:TRUE');
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', at('host.key'), '-out', at('host.csr'), '-subj', '/CN=localhost');
  openssl('x509', '-req', '-in', at('host.csr'), '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '1', '-out', at('host.pem'), '-extfile', at('names'));
  const seen = [];
  const server = https.createServer({ cert: readFileSync(at('host.pem')), key: readFileSync(at('host.key')) }, (request, response) => {
    seen.push(request.url);
    const own = `https://localhost:${server.address().port}`;
    const documents = {
      '/client.json': { client_id: `${own}/client.json`, client_name: 'Tour, by its document', client_uri: own },
      '/stranger.json': { client_id: `${own}/client.json`, client_name: 'A document that says it is another' },
    };
    const found = documents[request.url];
    if (!found) return response.writeHead(404).end();
    response.setHeader('content-type', 'application/json');
    return response.end(JSON.stringify({ ...found, application_type: 'native', redirect_uris: [CALLBACK], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none' }));
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const origin = `https://localhost:${server.address().port}`;
  return { origin, ca: at('ca.pem'), cert: at('host.pem'), key: at('host.key'), document: `${origin}/client.json`, stranger: `${origin}/stranger.json`, seen, close: () => { server.closeAllConnections(); server.close(); } };
}
