import java.io.IOException;
import java.io.OutputStream;
import java.net.HttpRetryException;
import java.net.HttpURLConnection;
import java.net.URL;

/** Sends each body completely before it reads the answer, and prints the answer's status. */
class Upload {
    public static void main(String[] arguments) throws IOException {
        byte[] body = new byte[Integer.parseInt(arguments[1])];
        for (int index = 2; index < arguments.length; index += 2) {
            for (String mode : new String[] {"buffered", "fixed", "chunked"}) {
                String[] header = arguments[index + 1].split(": ");
                System.out.println(status(arguments[0] + arguments[index], header, mode, body));
            }
        }
    }

    private static int status(String url, String[] header, String mode, byte[] body)
            throws IOException {
        HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
        connection.setRequestMethod("POST");
        connection.setRequestProperty(header[0], header[1]);
        connection.setDoOutput(true);
        if (mode.equals("fixed")) {
            connection.setFixedLengthStreamingMode(body.length);
        } else if (mode.equals("chunked")) {
            connection.setChunkedStreamingMode(0);
        }
        try {
            try (OutputStream stream = connection.getOutputStream()) {
                stream.write(body);
            }
            return connection.getResponseCode();
        } catch (HttpRetryException refused) {
            // Its way to tell a 401 after a body that it did not keep.
            return refused.responseCode();
        }
    }
}
