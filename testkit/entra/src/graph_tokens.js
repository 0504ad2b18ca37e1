// Why nobody but Graph can check a Graph token: its header carries a nonce, and the signature covers the nonce's hash.
import { createHash, randomBytes } from 'node:crypto';
import { decodeProtectedHeader } from 'jose';

const hash = nonce => createHash('sha256').update(nonce).digest('base64url');
const withHeader = (token, header) => Buffer.from(JSON.stringify(header)).toString('base64url') + token.slice(token.indexOf('.'));

/** The header's member to sign with; the nonce behind it is remembered. */
export function nonceToSign(entra) {
  const nonce = randomBytes(24).toString('base64url');
  entra.graphNonces.set(hash(nonce), nonce);
  return hash(nonce);
}

/** Puts the nonce where its hash was signed; other tokens stay as they are. */
export function graphify(entra, token) {
  let header;
  try { header = decodeProtectedHeader(token); } catch { return token; }
  const nonce = header.nonce && entra.graphNonces.get(header.nonce);
  return nonce ? withHeader(token, { ...header, nonce }) : token;
}

/** Undoes it, as Graph does before it checks the signature. */
export function ungraphify(token) {
  const header = decodeProtectedHeader(token);
  return header.nonce ? withHeader(token, { ...header, nonce: hash(header.nonce) }) : token;
}
