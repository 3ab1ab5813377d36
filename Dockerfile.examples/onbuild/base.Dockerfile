# What every greeter has in common; the steps run in the build that stands on this image.
FROM busybox
ONBUILD ARG WHO=everybody
ONBUILD COPY name.txt /name.txt
ONBUILD RUN echo "$WHO at $(cat /name.txt) is greeted" > /greeting.txt
