/** The request that the page makes, as a shell command. */

/**
 * @param {{url: string, contentType: string}} request
 * @param {{name: string, address: string|null}} image With an address if the service has the file.
 * @param {boolean} withKey Whether a key is needed; the command reads it from a variable.
 */
export function curlCommand(request, image, withKey) {
  const parts = [
    `curl --data-binary ${image.address ? "@-" : quoted(`@${image.name}`)}`,
    `-H ${quoted(`Content-Type: ${request.contentType}`)}`,
    ...(withKey ? ['-H "Authorization: Bearer $KEY"'] : []),
    quoted(request.url),
  ];
  const command = parts.join(" \\\n  ");
  return image.address ? `curl -s ${quoted(image.address)} |\n${command}` : command;
}

function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
